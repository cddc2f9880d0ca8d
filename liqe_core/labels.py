"""Human scores, distortions, scenes and splits of every data set, as one tidy table.

The six training sets' labels are the public repository's (zwx8981/LIQE, commit a64655f): scores and, added by
the paper's authors, distortion, up to three scenes, and ten splits. The sets that are only tested on are read
as their authors publish them (`liqe_core.label_forms`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.label_forms import FORMS
from liqe_core.label_source import label_folder
from liqe_core.manifests import SESSIONS, TRAINING_SETS, Manifest, load_manifest
from liqe_core.prompts import DISTORTIONS, SCENES
from liqe_core.tables import LabelError

SESSION_COLUMNS = tuple(f"session_{k}" for k in range(1, SESSIONS + 1))

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

PARTS = ("train", "val", "test")

#: The 33 distortions of the label files, and which of the 11 of the prompts each counts as (`dist_map` of the
#: public code).
DISTORTION_GROUPS = {
    "jpeg2000 compression": "jpeg2000 compression",
    "jpeg compression": "jpeg compression",
    "white noise": "noise",
    "gaussian blur": "blur",
    "fastfading": "jpeg2000 compression",
    "fnoise": "noise",
    "contrast": "contrast",
    "lens": "blur",
    "motion": "blur",
    "diffusion": "color",
    "shifting": "blur",
    "color quantization": "quantization",
    "oversaturation": "color",
    "desaturation": "color",
    "white with color": "noise",
    "impulse": "noise",
    "multiplicative": "noise",
    "white noise with denoise": "noise",
    "brighten": "overexposure",
    "darken": "underexposure",
    "shifting the mean": "other",
    "jitter": "spatial",
    "noneccentricity patch": "spatial",
    "pixelate": "spatial",
    "quantization": "quantization",
    "color blocking": "spatial",
    "sharpness": "contrast",
    "realistic blur": "blur",
    "realistic noise": "noise",
    "underexposure": "underexposure",
    "overexposure": "overexposure",
    "realistic contrast change": "contrast",
    "other realistic": "other",
}

# Before pandas 3, "str" would turn a missing value into the word None.
_TEXT = "str" if int(pd.__version__.split(".")[0]) >= 3 else "object"

_FILE_COLUMNS = ["image", "mos", "distortion", "scene_1", "scene_2", "scene_3"]


def load_labels(
    names: Iterable[str | Manifest] = TRAINING_SETS,
    root: str | os.PathLike | None = None,
    mirror: str | os.PathLike | None = None,
    fastfading: str = "released",
) -> pd.DataFrame:
    """The label tables of several data sets, one below the other; see `read_labels`."""
    tables = [read_labels(name, root=root, mirror=mirror, fastfading=fastfading) for name in names]
    return pd.concat(tables, ignore_index=True)


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
    form = manifest.labels.get("form")
    if form == "liqe":
        table = _read_liqe(manifest, label_folder(mirror))
        table["reference"] = _references(manifest, table["image"], root)
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


def _read_liqe(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """The thirty files of one set: checked against one another, then a row an image."""
    pieces = []
    for session in range(1, SESSIONS + 1):
        for part in PARTS:
            name = f"{manifest.labels['prefix']}_{part}_clip.txt"
            path = folder / "IQA_Database" / manifest.folders[0] / "splits2" / str(session) / name
            piece = _read_liqe_file(path)
            pieces.append(piece.assign(line=piece.index + 1, path=str(path), session=session, part=part))
    rows = pd.concat(pieces, ignore_index=True)
    _refuse(rows, rows["image"] == "", "no image name")
    rows["mos"] = pd.to_numeric(rows["mos"], errors="coerce").astype(np.float64)
    _refuse(rows, ~np.isfinite(rows["mos"]), "the score is not a number")
    _refuse(rows, rows.duplicated(["session", "image"]), "{image!r} is in this session a second time")
    _refuse(rows, ~rows["distortion"].isin(DISTORTION_GROUPS), "unknown distortion {distortion!r}")
    for scene in _FILE_COLUMNS[3:]:
        _refuse(rows, ~rows[scene].isin([*SCENES, "invalid"]), f"unknown scene {{{scene}!r}}")
    _refuse(rows, rows["scene_1"] == "invalid", "no scene")
    images = rows.drop_duplicates("image")
    differing = ~rows.duplicated(_FILE_COLUMNS) & rows.duplicated("image")
    _refuse(rows, differing, "{image!r} has other labels here than in an earlier file")
    parts = rows.pivot(index="image", columns="session", values="part")
    if parts.isna().to_numpy().any():
        image = parts.index[parts.isna().any(axis=1)][0]
        session = parts.columns[parts.loc[image].isna()][0]
        raise LabelError(f"{folder}: {manifest.name}: {image!r} is in no part of session {session}")
    parts.columns = SESSION_COLUMNS
    images = images.set_index("image").loc[parts.index]
    scenes = images[_FILE_COLUMNS[3:]].to_numpy()
    images["scenes"] = [tuple(name for name in row if name != "invalid") for row in scenes]
    return pd.concat([images[["mos", "distortion", "scenes"]], parts], axis=1).reset_index(names="image")


def _read_liqe_file(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(
            path,
            sep="\t",
            header=None,
            names=_FILE_COLUMNS,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        ).fillna("")
    except FileNotFoundError:
        raise LabelError(
            f"{path}: no such label file; give a clone of zwx8981/LIQE at commit a64655f as the mirror"
        ) from None
    except (ValueError, pd.errors.ParserWarning) as error:
        raise LabelError(f"{path}: not a label file of LIQE ({error})") from error


def _refuse(rows: pd.DataFrame, bad: pd.Series, what: str) -> None:
    if bad.any():
        row = rows[bad].iloc[0]
        more = f" ({bad.sum()} such lines)" if bad.sum() > 1 else ""
        raise LabelError(
            f"{row.path}, line {row.line}: {what.format(**row)}{more}; correct or remove the line"
        )


def _references(manifest: Manifest, images: pd.Series, root) -> list[str | None]:
    """Reference names, from the file name or, for LIVE, from the map that comes with the pictures."""
    if "reference_map" in manifest.fields:
        folder = manifest.locate(root)
        path = folder and folder / manifest.fields["reference_map"]
        if path and path.is_file():
            return _live_references(path, images)
        return [None] * len(images)
    return [manifest.reference_of(image) for image in images]


def _live_references(path: Path, images: pd.Series) -> list[str | None]:
    """refnames_all.mat: 982 names in the order jp2k 1..227, jpeg 1..233, wn, gblur, fastfading 1..174."""
    from scipy.io import loadmat

    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    keys = [f"{folder}/img{i}.bmp" for folder, count in counts.items() for i in range(1, count + 1)]
    try:
        names = [str(np.ravel(cell)[0]) for cell in np.ravel(loadmat(path)["refnames_all"])]
    except (KeyError, ValueError, IndexError, NotImplementedError, OSError) as error:
        raise LabelError(f"{path}: not LIVE's table of reference names ({error!r})") from error
    if len(names) != len(keys):
        raise LabelError(f"{path}: {len(names)} names, {len(keys)} expected; get the file again")
    of_image = dict(zip(keys, (Path(name).stem.lower() for name in names), strict=True))
    return [of_image.get(image) for image in images]


def _tidy(manifest: Manifest, table: pd.DataFrame) -> pd.DataFrame:
    """All columns, in order, whatever the form had."""
    table = table.reset_index(drop=True)
    table["dataset"] = manifest.name
    table["mos"] = manifest.score.oriented(table["mos"].astype(np.float64))
    if "scenes" not in table:
        table["scenes"] = pd.Series([()] * len(table), dtype=object)
    for name in COLUMNS:
        if name not in table:
            table[name] = None
    groups = DISTORTION_GROUPS | {name: name for name in DISTORTIONS}
    table["distortion_group"] = table["distortion"].map(groups)
    return as_text(table[list(COLUMNS)])


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The text columns as pandas' text type, also those with nothing in them."""
    return table.astype({n: _TEXT for n in COLUMNS if n in table and n not in ("mos", "scenes")})
