"""Scores, distortions, scenes and splits of every dataset in one tidy table.

Labels of the six training sets come from the public LIQE repository (`released_labels`); labels of the other
datasets are read in the format of their authors (`label_forms`).
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

#: The columns of every label table. `image` is a path relative to the dataset's folder; a higher `mos` is
#: better; `scenes` is a tuple of names, empty if unknown; a session column holds "train", "val" or "test".
COLUMNS: tuple[str, ...] = ("dataset", "image", "mos", "distortion", "distortion_group", "scenes")
COLUMNS += ("reference", *SESSION_COLUMNS)


def readable(root: AnyPath = None, mirror: AnyPath = None, fetch: bool = False) -> list[str]:
    """Return the names of the datasets whose labels `read_labels` can read on this machine.

    Args:
        root, mirror: see `read_labels`.
        fetch: include the training sets even if `read_labels` has to download their label files first.
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
    """Read the label table of one dataset.

    Args:
        manifest: name of a dataset, path of a manifest, or a manifest.
        root: the folder of all datasets, for datasets whose labels come with their images.
        mirror: a clone of zwx8981/LIQE, for the six training sets; default ``$LIQE_LABELS``. Without either,
            the files are downloaded once, checked, and kept in the cache folder.
        fastfading: ``released``: LIVE's labels as published (the source of the paper's numbers);
            ``corrected``: see `correct_fastfading`.

    Returns:
        One row per image with the columns `COLUMNS`: sorted by image for the six training sets, otherwise in
        the order of the label file.

    Raises:
        LabelError: a label file is missing or invalid (names the line), or labels contradict each other; or
            the manifest has no labels (such as `mini`, which makes its own).
        ManifestError: no such manifest.
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
    """Summarize each dataset in one row, like the paper's table of datasets.

    The columns are the numbers of images, distortions and references, the lowest and highest score, and the
    number of images with scene labels.
    """
    counted: dict[str, tuple] = {"images": ("image", "size")}
    counted |= {f"{name}s": (name, "nunique") for name in ("distortion", "reference")}
    counted |= {"lowest": ("mos", "min"), "highest": ("mos", "max")}
    counted |= {"with_scenes": ("scenes", lambda scenes: sum(map(bool, scenes)))}
    return table.groupby("dataset", sort=False).agg(**counted).reset_index()


def correct_fastfading(table: pd.DataFrame) -> pd.DataFrame:
    """Correct the labels of LIVE's 145 fast-fading images.

    In the released files, each has the distortion (white noise) *and* the scenes of the white-noise image of
    the same number, which shows another photograph. The corrected distortion is ``fastfading``, the name in
    the public code, and the corrected scenes are those of the other images of the same reference. The ten
    splits identify these images: all images of a reference are always in the same part.
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
    """Bring a table to the columns `COLUMNS`, in order."""
    if table.empty:
        raise LabelError(f"{manifest.path}: the label file has no rows; add one row per image")
    table = table.reset_index(drop=True)
    table["dataset"] = manifest.name
    table["mos"] = table["mos"].astype(np.float64)
    if manifest.role == "user" and manifest.score:  # `liqe data audit` checks published datasets
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
    """Convert the text columns to pandas' string type, including empty columns."""
    return table.astype({n: "str" for n in COLUMNS if n in table and n not in ("mos", "scenes")})
