"""Human scores, distortions, scenes and splits of every dataset, as one tidy table.

The six training sets' labels are the public repository's (`released_labels`), those of the other sets are
read as their authors publish them (`label_forms`).
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from liqe_core.data import released_labels
from liqe_core.data.label_forms import FORMS
from liqe_core.data.manifests import AnyPath, Manifest, available, load_manifest
from liqe_core.data.released_labels import DISTORTION_GROUPS
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.data.tables import LabelError
from liqe_core.prompts import DISTORTIONS

#: The columns of every label table. `image` is the path below the dataset's folder; `mos` is higher for
#: better images; `scenes` is a tuple of names, empty where unknown; a session is "train", "val" or "test".
COLUMNS: tuple[str, ...] = ("dataset", "image", "mos", "distortion", "distortion_group", "scenes")
COLUMNS += ("reference", *SESSION_COLUMNS)


def readable(root: AnyPath = None, mirror: AnyPath = None, fetch: bool = False) -> list[str]:
    """The names of the known datasets whose labels `read_labels` can read here.

    Args:
        root, mirror: as `read_labels` takes them.
        fetch: count the training sets, whose label files `read_labels` fetches where they are not here.
    """

    released = fetch or released_labels.labels_at_hand(mirror)
    manifests = map(load_manifest, available())
    return [m.name for m in manifests if (released if m.form == "liqe" else m.labels and m.locate(root))]


def read_labels(
    manifest: str | os.PathLike | Manifest,
    root: AnyPath = None,
    mirror: AnyPath = None,
    fastfading: str = "released",
) -> pd.DataFrame:
    """The label table of one dataset.

    Args:
        manifest: a name, a manifest's path, or a manifest.
        root: the folder that datasets are in, for those whose labels come with their images.
        mirror: a clone of zwx8981/LIQE, for the six training sets; default ``$LIQE_LABELS``; where neither
            is given the files are fetched once, checked, and kept in the cache folder.
        fastfading: ``released``: LIVE's labels as published (and as the paper's numbers come from);
            ``corrected``: see `correct_fastfading`.

    Returns:
        A row an image, columns `COLUMNS`, sorted by image for the six sets, else in the file's order.

    Raises:
        LabelError: a label file is missing or wrong (with the line), or the labels contradict one another.
        ManifestError: no such manifest, or one that says nothing of labels (as `mini`, which makes its own).
    """
    if fastfading not in ("released", "corrected"):
        raise ValueError(f"fastfading is {fastfading!r}: choose released or corrected")
    if not isinstance(manifest, Manifest):
        manifest = load_manifest(manifest)
    form = manifest.form
    if form == "liqe":
        table = released_labels.read_released(manifest, released_labels.label_folder(mirror))
        table["reference"] = released_labels.references_of(manifest, table["image"], root)
    elif form in FORMS:
        table = FORMS[form](manifest, manifest.folder(root))
    else:
        raise LabelError(f"{manifest.path}: the manifest names no label file (field `labels`)")
    table = _tidy(manifest, table)
    if manifest.name == "live" and fastfading == "corrected":
        table = correct_fastfading(table)
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row a dataset, as the paper's table of datasets: images, distortions, references, lowest and
    highest score, and how many images have scene labels."""
    counted: dict[str, tuple] = {"images": ("image", "size")}
    counted |= {f"{name}s": (name, "nunique") for name in ("distortion", "reference")}
    counted |= {"lowest": ("mos", "min"), "highest": ("mos", "max")}
    counted |= {"with_scenes": ("scenes", lambda scenes: sum(map(bool, scenes)))}
    return table.groupby("dataset", sort=False).agg(**counted).reset_index()


def correct_fastfading(table: pd.DataFrame) -> pd.DataFrame:
    """LIVE's labels with the 145 fast-fading images put right.

    In the released files each carries the distortion (white noise) *and* the scenes of the white-noise
    image of the same number, which shows another photograph. Here the distortion is ``fastfading``, the
    name the public code has for it, and the scenes are those of the other images of the same reference.
    Which images those are shows in the ten splits: a reference's images are always in the same part.
    """
    table = table.copy()
    fading = table["image"].str.startswith("fastfading/")
    signature = table[list(SESSION_COLUMNS)].agg("".join, axis=1)
    of_reference = table[~fading].groupby(signature)["scenes"].first()
    table.loc[fading, "scenes"] = signature[fading].map(of_reference)
    table.loc[fading, "distortion"] = "fastfading"
    table.loc[fading, "distortion_group"] = DISTORTION_GROUPS["fastfading"]
    return table


def _tidy(manifest: Manifest, table: pd.DataFrame) -> pd.DataFrame:
    """All columns, in order, whatever the form had."""
    if table.empty:
        raise LabelError(f"{manifest.path}: its label file has no rows; give it a row an image")
    table = table.reset_index(drop=True)
    table["dataset"] = manifest.name
    table["mos"] = table["mos"].astype(np.float64)
    if manifest.role == "user" and manifest.score:  # of published sets `liqe data audit` tells
        low, high = manifest.score.low, manifest.score.high
        if len(outside := table[(table["mos"] < low) | (table["mos"] > high)]):
            first = f"{outside['mos'].iloc[0]:g} of {outside['image'].iloc[0]}"
            problem = f"{len(outside)} scores outside the range {low:g} to {high:g}, the first {first}"
            raise LabelError(f"{manifest.path}: {problem}; correct the score or the range")
    if manifest.score:
        table["mos"] = manifest.score.oriented(table["mos"])
    if "scenes" not in table:
        table["scenes"] = pd.Series([()] * len(table), dtype=object)
    table = table.reindex(columns=list(COLUMNS))
    own = manifest.words.get("distortion")
    groups = {name: name for name in own} if own else DISTORTION_GROUPS | {name: name for name in DISTORTIONS}
    table["distortion_group"] = table["distortion"].map(groups)
    return as_text(table)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The text columns as pandas' text type, also those with nothing in them."""
    return table.astype({n: "str" for n in COLUMNS if n in table and n not in ("mos", "scenes")})
