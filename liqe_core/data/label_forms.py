"""The forms in which authors publish their scores, a reader each; `liqe_core.data.labels` makes them tidy.

A reader takes (manifest, folder of the data set) and gives a table with at least ``image`` and ``mos``, the
score as published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from liqe_core.data.distorted import best_scored, label_table, other_set, sets_to_fetch
from liqe_core.data.manifests import SESSIONS, Manifest
from liqe_core.data.released_labels import DISTORTION_GROUPS
from liqe_core.data.tables import LabelError, column, numbers, read_table, read_text, unique
from liqe_core.images import list_pictures
from liqe_core.prompts import DISTORTIONS, SCENES

#: TID2013's distortions, 01 to 24 in its file names.
TID2013_DISTORTIONS = (
    "additive gaussian noise",
    "additive noise in color components",
    "spatially correlated noise",
    "masked noise",
    "high frequency noise",
    "impulse noise",
    "quantization noise",
    "gaussian blur",
    "image denoising",
    "jpeg compression",
    "jpeg2000 compression",
    "jpeg transmission errors",
    "jpeg2000 transmission errors",
    "non eccentricity pattern noise",
    "local block-wise distortions",
    "mean shift",
    "contrast change",
    "change of color saturation",
    "multiplicative gaussian noise",
    "comfort noise",
    "lossy compression of noisy images",
    "color quantization with dither",
    "chromatic aberrations",
    "sparse sampling and reconstruction",
)


def read_tid2013(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """``mos_with_names.txt``: lines of a score and ``I01_01_1.bmp`` (reference, distortion, level)."""
    path = label_file(manifest, folder)
    rows = read_table(path, columns=["mos", "name"], sep=r"\s+")
    mos, names = numbers(rows["mos"], path), unique(rows["name"], path)
    distortions = []
    for line, name in names.items():
        found = re.fullmatch(r"[iI]\d\d_(\d\d)_\d\.\w+", name)
        if not found or not 1 <= int(found[1]) <= len(TID2013_DISTORTIONS):
            raise LabelError(f"{path}, line {line}: {name!r} is not a TID2013 name such as I01_01_1.bmp")
        distortions.append(TID2013_DISTORTIONS[int(found[1]) - 1])
    return _table(manifest, names, mos, distortion=distortions)


def read_pipal(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """A text file a reference (``Train_Label/A0001.txt``) with lines ``A0001_00_00.bmp,1456.39``."""
    labels = label_file(manifest, folder)
    paths = sorted(labels.glob("*.txt"))
    if not paths:
        raise LabelError(f"{labels}: no .txt files; PIPAL has one a reference there")
    tables = []
    for path in paths:
        rows = read_table(path, columns=["name", "mos"], sep=",")
        tables.append(_table(manifest, unique(rows["name"], path), numbers(rows["mos"], path)))
    table = pd.concat(tables, ignore_index=True)
    twice = table["image"][table["image"].duplicated()]
    if len(twice):
        raise LabelError(f"{labels}: {Path(twice.iloc[0]).name!r} is in more than one of the files")
    return table


def read_columns(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """SPAQ's spreadsheet, FLIVE's and AGIQA-3K's CSV: an image column and a score column."""
    path = label_file(manifest, folder)
    rows = read_table(path)
    names = unique(column(rows, manifest.labels["image"], path), path)
    return _table(manifest, names, numbers(column(rows, manifest.score.column, path), path))


def read_json(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """A JSON file (AIGCIQA2023's): a list of objects, one a picture, or one object of columns."""
    path = label_file(manifest, folder)
    try:
        rows = pd.DataFrame(json.loads(read_text(path)))
    except ValueError as error:
        if isinstance(error, LabelError):
            raise
        raise LabelError(f"{path}: not a table in JSON ({error}); get it again") from None
    rows = rows.astype(str)
    rows.index = pd.RangeIndex(1, len(rows) + 1)
    names = unique(column(rows, manifest.labels["image"], path), path)
    return _table(manifest, names, numbers(column(rows, manifest.score.column, path), path))


def read_biq2021(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Two CSVs, one a part of the public split, which becomes session 1."""
    tables = []
    for part in ("train", "test"):
        path = folder / manifest.labels[part]
        rows = read_table(path)
        names = unique(column(rows, manifest.labels["image"], path), path)
        mos = numbers(column(rows, manifest.score.column, path), path)
        tables.append(_table(manifest, names, mos, session_1=part))
    table = pd.concat(tables, ignore_index=True)
    both = table["image"][table["image"].duplicated()]
    if len(both):
        raise LabelError(
            f"{folder}: {both.iloc[0]!r} is in the train file and in the test file ({len(both)} such)"
        )
    return table


def read_csv(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """A user's CSV or spreadsheet. Columns called ``distortion``, ``scenes`` (names with ``;`` or ``|``
    between), ``reference``, ``split`` or ``session_1`` .. ``session_10`` are taken where they are."""
    path = label_file(manifest, folder)
    rows = read_table(path)
    names = unique(column(rows, manifest.labels["image"], path), path) + manifest.labels.get("suffix", "")
    table = _table(manifest, names, numbers(column(rows, manifest.score.column, path), path))
    have = {name.lower(): rows[name].where(rows[name] != "", None) for name in rows.columns}
    for name in ("distortion", "reference"):
        if name in have:
            table[name] = have[name].to_numpy()
    if "distortion" in have:
        known = manifest.words.get("distortion", (*DISTORTIONS, *DISTORTION_GROUPS))
        for line, word in have["distortion"].dropna().items():
            _refuse_unknown("distortion", (word,), known, f"{path}, line {line}")
    if "scenes" in have:
        split = [
            tuple(s.strip() for s in re.split(r"[;|]", text)) if text else ()
            for text in have["scenes"].fillna("")
        ]
        for line, scenes in zip(rows.index, split, strict=True):
            _refuse_unknown("scene", scenes, manifest.words.get("scene", SCENES), f"{path}, line {line}")
        table["scenes"] = pd.Series(split, dtype=object)
    if "split" in have and "session_1" not in have:
        have["session_1"] = have["split"]
    for session in (f"session_{k}" for k in range(1, SESSIONS + 1)):
        if session in have:
            parts = have[session].str.lower().replace({"validation": "val", "valid": "val"})
            wrong = parts.index[parts.notna() & ~parts.isin(["train", "val", "test"])]
            if len(wrong):
                raise LabelError(
                    f"{path}, line {wrong[0]}: split {parts[wrong[0]]!r}; known: train, val, test"
                )
            table[session] = parts.to_numpy()
    return table


def _refuse_unknown(axis: str, words: tuple[str, ...], known: Sequence[str], where: str) -> None:
    if unknown := sorted(set(words) - set(known)):
        raise LabelError(
            f"{where}: unknown {axis} {', '.join(unknown)}; known: {', '.join(dict.fromkeys(known))}; or "
            f"name your own in the manifest (words: {{{axis}: [...]}})"
        )


def read_classes(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Pictures in a folder a class, and a table of the classes: its columns are ``class``, the folder's path
    (or a single picture's), and ``scenes``, the paper's words with ``;`` between, nothing where none fits.

    A picture of a class without a word is not in the table: a word is not forced on it.

    Raises:
        LabelError: a class that is not there, a picture whose class is not in the table, an unknown word.
    """
    path = label_file(manifest, folder)
    rows = read_table(path)
    names = unique(column(rows, "class", path), path)
    texts = column(rows, "scenes", path)
    words = {name: tuple(filter(None, text.split(";"))) for name, text in zip(names, texts, strict=True)}
    for line, name in names.items():
        _refuse_unknown("scene", words[name], manifest.words.get("scene", SCENES), f"{path}, line {line}")
    pictures = list_pictures(folder)
    classes = [name if name in words else name.rpartition("/")[0] for name in pictures]
    if strange := [p for p, name in zip(pictures, classes, strict=True) if name not in words]:
        raise LabelError(f"{path}: no class of {strange[0]!r} ({len(strange)} such pictures in {folder})")
    if pictures and (absent := names[~names.isin(classes)]).size:
        raise LabelError(
            f"{path}, line {absent.index[0]}: no picture of class {absent.iloc[0]!r} in {folder} "
            f"({len(absent)} such classes); get the set again"
        )
    if not pictures:
        raise LabelError(f"{folder}: no pictures; get the data set from {manifest.where}")
    labelled = [(p, words[name]) for p, name in zip(pictures, classes, strict=True) if words[name]]
    table = pd.DataFrame({"image": [p for p, _ in labelled]}).assign(mos=float("nan"), reference=None)
    table["scenes"] = pd.Series([scenes for _, scenes in labelled], dtype=object)
    return table


def read_distorted(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Photographs that are distorted here; the table names every picture before any is made.

    Raises:
        LabelError: the photographs, or the set whose best are taken too, are not there.
    """
    if absent := " ".join(sets_to_fetch(manifest, folder)):
        raise LabelError(
            f"{manifest.name} is made of photographs that are not there: liqe data fetch {absent}"
        )
    best_of, best = other_set(manifest, folder)
    assert best is not None, "nothing is lacking"
    table = FORMS[best_of.labels["form"]](best_of, best)
    table["mos"] = best_of.score.oriented(table["mos"])
    names = list_pictures(folder / manifest.labels["photographs"])
    return label_table(names, best_scored(table, manifest.labels["best"]), manifest.pictures[0])


FORMS = {
    "tid2013": read_tid2013,
    "pipal": read_pipal,
    "spaq": read_columns,
    "flive": read_columns,
    "agiqa3k": read_columns,
    "biq2021": read_biq2021,
    "csv": read_csv,
    "json": read_json,
    "classes": read_classes,
    "distorted": read_distorted,
}


def label_file(manifest: Manifest, folder: Path) -> Path:
    """The label file (or folder) of a data set that is there; a user's may lie beside the manifest too."""
    names = manifest.labels["file"]
    names = [names] if isinstance(names, str) else names
    tried = [folder / name for name in names] + [manifest.path.parent / name for name in names]
    for path in tried:
        if path.exists():
            return path
    raise LabelError(
        f"{tried[0]}: no such label file of {manifest.name}"
        + (f" (nor {', '.join(names[1:])})" if len(names) > 1 else "")
        + (f"; get the data set from {manifest.where}" if manifest.where else "; check the manifest")
    )


def _table(manifest: Manifest, names: pd.Series, mos: pd.Series, **more) -> pd.DataFrame:
    """`image` is below the data set's folder, so the labels' names go below the first picture folder."""
    below = "" if manifest.pictures[0] == "." else manifest.pictures[0].rstrip("/") + "/"
    images = (below + names.str.replace("\\", "/", regex=False)).to_numpy()
    references = [manifest.reference_of(image) for image in images]
    return pd.DataFrame({"image": images, "mos": mos.to_numpy(), "reference": references, **more})
