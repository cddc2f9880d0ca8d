"""Human scores, distortions, scenes and splits of every data set, as one tidy table.

The six training sets' labels are the public repository's (`released_labels`), those of the other sets are
read as their authors publish them (`label_forms`).
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from liqe_core.data.label_forms import FORMS
from liqe_core.data.manifests import Manifest, available, load_manifest
from liqe_core.data.released_labels import (
    DISTORTION_GROUPS,
    label_folder,
    labels_at_hand,
    read_released,
    references_of,
)
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.data.tables import LabelError
from liqe_core.prompts import DISTORTIONS

#: The columns of every label table. `image` is the path below the data set's folder; `mos` is higher for
#: better pictures; `scenes` is a tuple of names, empty where unknown; a session is "train", "val" or "test".
COLUMNS = (
    "dataset",
    "image",
    "mos",
    "distortion",
    "distortion_group",
    "scenes",
    "reference",
    *SESSION_COLUMNS,
)

# Before pandas 3, "str" would turn a missing value into the word None.
_TEXT = "str" if int(pd.__version__.split(".")[0]) >= 3 else "object"


def readable(
    root: str | os.PathLike | None = None, mirror: str | os.PathLike | None = None, fetch: bool = False
) -> list[str]:
    """The names of the known data sets whose labels `read_labels` can read here.

    Args:
        root, mirror: as `read_labels` takes them.
        fetch: count the training sets, whose label files `read_labels` fetches where they are not here.
    """

    def can(name: str) -> bool:
        manifest = load_manifest(name)
        if manifest.form == "liqe":
            return fetch or labels_at_hand(mirror)
        return bool(manifest.labels) and manifest.locate(root) is not None

    return [name for name in available() if can(name)]


def read_labels(
    manifest: str | os.PathLike | Manifest,
    root: str | os.PathLike | None = None,
    mirror: str | os.PathLike | None = None,
    fastfading: str = "released",
) -> pd.DataFrame:
    """The label table of one data set.

    Args:
        manifest: a name, a manifest's path, or a manifest.
        root: the folder that data sets are in, for those whose labels come with their pictures.
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
        table = read_released(manifest, label_folder(mirror))
        table["reference"] = references_of(manifest, table["image"], root)
    elif form in FORMS:
        table = FORMS[form](manifest, manifest.folder(root))
    else:
        raise LabelError(f"{manifest.path}: the manifest names no label file (field `labels`)")
    table = _tidy(manifest, table)
    if manifest.name == "live" and fastfading == "corrected":
        table = correct_fastfading(table)
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row a data set, as the paper's table of data sets: images, distortions, references, lowest and
    highest score, and how many images have scene labels."""
    groups = table.groupby("dataset", sort=False)
    return pd.DataFrame(
        {
            "images": groups.size(),
            "distortions": groups["distortion"].nunique(),
            "references": groups["reference"].nunique(),
            "lowest": groups["mos"].min(),
            "highest": groups["mos"].max(),
            "with_scenes": groups["scenes"].agg(lambda scenes: sum(map(bool, scenes))),
        }
    ).reset_index()


def correct_fastfading(table: pd.DataFrame) -> pd.DataFrame:
    """LIVE's labels with the 145 fast-fading pictures put right.

    In the released files each carries the distortion (white noise) *and* the scenes of the white-noise
    picture of the same number, which shows another photograph. Here the distortion is ``fastfading``, the
    name the public code has for it, and the scenes are those of the other pictures of the same reference.
    Which pictures those are shows in the ten splits: a reference's pictures are always in the same part.
    """
    table = table.copy()
    fading = (table["dataset"] == "live") & table["image"].str.startswith("fastfading/")
    signature = table[list(SESSION_COLUMNS)].agg("".join, axis=1)
    of_reference = table[~fading & (table["dataset"] == "live")].groupby(signature)["scenes"].first()
    table.loc[fading, "scenes"] = signature[fading].map(of_reference)
    table.loc[fading, "distortion"] = "fastfading"
    table.loc[fading, "distortion_group"] = DISTORTION_GROUPS["fastfading"]
    return table


def _tidy(manifest: Manifest, table: pd.DataFrame) -> pd.DataFrame:
    """All columns, in order, whatever the form had."""
    if table.empty:
        raise LabelError(
            f"{manifest.path}: its label file has a header and no rows; a row a picture is needed"
        )
    table = table.reset_index(drop=True)
    table["dataset"] = manifest.name
    table["mos"] = table["mos"].astype(np.float64)
    if manifest.role == "user" and manifest.score:  # of published sets `liqe data audit` tells
        low, high = manifest.score.low, manifest.score.high
        if len(outside := table[(table["mos"] < low) | (table["mos"] > high)]):
            first = f"{outside['mos'].iloc[0]:g} of {outside['image'].iloc[0]}"
            raise LabelError(
                f"{manifest.path}: {len(outside)} scores outside the range, {low:g} to {high:g}, the first "
                f"{first}; put the score or the range right"
            )
    if manifest.score:
        table["mos"] = manifest.score.oriented(table["mos"])
    if "scenes" not in table:
        table["scenes"] = pd.Series([()] * len(table), dtype=object)
    for name in COLUMNS:
        if name not in table:
            table[name] = None
    own = manifest.words.get("distortion")
    groups = {name: name for name in own} if own else DISTORTION_GROUPS | {name: name for name in DISTORTIONS}
    table["distortion_group"] = table["distortion"].map(groups)
    return as_text(table[list(COLUMNS)])


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The text columns as pandas' text type, also those with nothing in them."""
    return table.astype({n: _TEXT for n in COLUMNS if n in table and n not in ("mos", "scenes")})
