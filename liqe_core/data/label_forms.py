"""Readers for the published label formats; `liqe_core.data.labels` brings their tables into one form.

A reader takes a manifest and the folder of the dataset. It returns a table with at least ``image`` and
``mos``, the score as published.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from liqe_core.data.distorted import best_scored, label_table, other_set, sets_to_fetch
from liqe_core.data.manifests import Manifest, load_manifest
from liqe_core.data.released_labels import DISTORTION_GROUPS
from liqe_core.data.splits import PARTS, SESSION_COLUMNS
from liqe_core.data.tables import LabelError, column, numbers, read_table, unique
from liqe_core.files import first_few
from liqe_core.images import list_images
from liqe_core.prompts import DISTORTIONS, SCENES

#: Alternative column names in a user's table, such as the axis names of the manifest's ``words``.
SYNONYMS = {"scene": "scenes", "distortions": "distortion", "ref": "reference"}


def read_tid2013(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Read ``mos_with_names.txt``: lines of a score and ``I01_01_1.bmp`` (reference, distortion, level)."""
    path = label_file(manifest, folder)
    rows = read_table(path, columns=["mos", "name"], sep=r"\s+")
    mos, names = numbers(rows["mos"], path), unique(rows["name"], path)
    number = names.str.extract(r"^[iI]\d\d_(\d\d)_\d\.\w+$")[0].astype(float)
    distortions = tuple(load_manifest("tid2013").expect.distortions)  # in the order of their numbers
    if len(wrong := names[~number.between(1, len(distortions))]):
        raise LabelError(f"{path}, line {wrong.index[0]}: {wrong.iloc[0]!r} is not a name like I01_01_1.bmp")
    return _table(manifest, names, mos, distortion=[distortions[int(k) - 1] for k in number])


def read_pipal(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Read one text file per reference (``Train_Label/A0001.txt``): lines ``A0001_00_00.bmp,1456.39``."""
    labels = label_file(manifest, folder)
    tables = []
    for path in sorted(labels.glob("*.txt")):
        rows = read_table(path, columns=["name", "mos"], sep=",")
        tables.append(_table(manifest, unique(rows["name"], path), numbers(rows["mos"], path)))
    if not tables:
        raise LabelError(f"{labels}: no .txt files; PIPAL has one per reference in this folder")
    return _joined(tables, labels)


def read_biq2021(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Read two CSV files, one per part of the public split, which becomes session 1.

    Scenes and distortions of some images come from a table that the manifest names; its ``none`` means that
    the image has no distortion.
    """
    paths = {part: folder / getattr(manifest.labels, part) for part in ("train", "test")}
    tables = [_from_columns(manifest, read_table(path), path, session_1=part) for part, path in paths.items()]
    table = _joined(tables, folder)
    if manifest.labels.described:
        path = manifest.path.parent / manifest.labels.described
        known = read_table(path).set_index("image")
        scenes, distortions = known["scenes"].str.split(";"), known["distortion"].replace("none", None)
        _check_words(manifest, "scene", scenes, path)
        _check_words(manifest, "distortion", distortions, path)
        table["scenes"] = [tuple(scenes.get(image, ())) for image in table["image"]]
        table["distortion"] = table["image"].map(distortions)
    return table


def read_csv(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Read a table: CSV, a spreadsheet, or JSON.

    The optional columns ``distortion``, ``scenes`` (names separated by ``;`` or ``|``), ``reference``,
    ``split`` and ``session_1`` .. ``session_10`` are read too; a warning lists the unread columns of a
    user's table.
    """
    path = label_file(manifest, folder)
    rows = read_table(path)
    table = _from_columns(manifest, rows, path)
    titles = sorted(rows.columns, key=lambda title: title.lower() not in SYNONYMS)  # main names override
    columns = {
        SYNONYMS.get(title.lower(), title.lower()): rows[title].where(rows[title] != "", None)
        for title in titles
    }
    _check_columns(manifest, rows, columns, path)
    for name in {"distortion", "reference"} & set(columns):
        table[name] = columns[name].to_numpy()
    if "distortion" in columns:
        _check_words(manifest, "distortion", columns["distortion"], path)
    if "scenes" in columns:
        scenes = columns["scenes"].fillna("").str.split(r"\s*[;|]\s*", regex=True)
        scenes = scenes.map(lambda names: tuple(filter(None, names)))
        _check_words(manifest, "scene", scenes, path)
        table["scenes"] = scenes.to_numpy()
    columns = {"session_1": columns["split"]} | columns if "split" in columns else columns
    for session in [session for session in SESSION_COLUMNS if session in columns]:
        parts = columns[session].str.lower().replace({"validation": "val", "valid": "val"})
        if len(wrong := parts[parts.notna() & ~parts.isin(PARTS)]):
            raise LabelError(f"{path}, line {wrong.index[0]}: split {wrong.iloc[0]!r} is not one of {PARTS}")
        if empty := int(parts.isna().sum()):
            warnings.warn(f"{path}: {empty} of {len(parts)} rows are in no part of {session}", stacklevel=2)
        table[session] = parts.to_numpy()
    return table


def _check_columns(manifest: Manifest, rows: pd.DataFrame, columns: Collection[str], path: Path) -> None:
    """Reject a table without a column that the manifest's ``words`` require; warn about unread columns."""
    names = ("scenes", "distortion", "reference", "split", *SESSION_COLUMNS)
    titles = (manifest.labels.image, *([manifest.score.column] if manifest.score else []))
    used = {str(column(rows, title, path).name).lower() for title in titles}
    unread = sorted(set(columns) - {*names, *used})
    close = {name: "".join(get_close_matches(name, names, 1, 0.5)) for name in unread}
    unread = [f"{name!r}" + f" (did you mean {close[name]!r}?)" * bool(close[name]) for name in unread]
    for axis, name in {"scene": "scenes", "distortion": "distortion"}.items():
        if axis in manifest.words and name not in columns:
            similar = [title for title, near in close.items() if near == name]
            advice = f"rename the column {similar[0]!r}" if similar else "add it"
            raise LabelError(f"{path}: no column {name!r} for the manifest's {axis} words; {advice}")
    if unread and manifest.role == "user":
        warnings.warn(f"{path}: unread columns: {', '.join(unread)}", stacklevel=2)


def _check_words(manifest: Manifest, axis: str, words: pd.Series, path: Path) -> None:
    """Reject words (or tuples of words, by line) that neither the manifest nor the paper defines."""
    papers = {"scene": SCENES, "distortion": (*DISTORTIONS, *DISTORTION_GROUPS)}
    known = manifest.words.get(axis, tuple(dict.fromkeys(papers[axis])))
    words = words.explode().dropna()
    if len(unknown := words[~words.isin(known)]):
        word = unknown.iloc[0]
        near = first_few(get_close_matches(word.lower(), known, 3) or known, 12)
        advice = f"known: {near}; or name your own in the manifest (words: {{{axis}: [...]}})"
        raise LabelError(f"{path}, line {unknown.index[0]}: unknown {axis} {word!r}; {advice}")


def read_distorted(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """List the images of a dataset that this project distorts itself, before they are made.

    Raises:
        LabelError: the photographs, or the dataset that contributes its best images, are missing.
    """
    if absent := " ".join(sets_to_fetch(manifest, folder)):
        raise LabelError(f"the photographs of {manifest.name} are missing: liqe data fetch {absent}")
    best_of, best = other_set(manifest, folder)
    assert best is not None, "checked by sets_to_fetch"
    table = FORMS[best_of.form](best_of, best)
    table["mos"] = best_of.score.oriented(table["mos"])
    names = list_images(folder / manifest.labels.photographs)
    return label_table(names, best_scored(table, manifest.labels.best), manifest.image_folders[0])


FORMS = {
    "tid2013": read_tid2013,
    "pipal": read_pipal,
    "biq2021": read_biq2021,
    "csv": read_csv,
    "json": read_csv,
    "scenes": read_csv,
    "distorted": read_distorted,
}


def label_file(manifest: Manifest, folder: Path) -> Path:
    """Return the label file (or folder) of a dataset; it may also lie beside the manifest."""
    names = manifest.labels.file
    tried = [folder / name for name in names] + [manifest.path.parent / name for name in names]
    for path in tried:
        if path.exists():
            return path
    advice = f"get the dataset from {manifest.page}" if manifest.page else "check the manifest"
    raise LabelError(f"{tried[0]}: no such label file of {manifest.name} ({', '.join(names)}); {advice}")


def _from_columns(manifest: Manifest, rows: pd.DataFrame, path: Path, **more) -> pd.DataFrame:
    """Read the columns that the manifest names."""
    names = unique(column(rows, manifest.labels.image, path), path)
    if manifest.score:
        mos = numbers(column(rows, manifest.score.column, path), path, manifest.score.high)
    else:  # form: scenes
        mos = pd.Series(float("nan"), index=rows.index)
    return _table(manifest, names + manifest.labels.suffix, mos, **more)


def _joined(tables: list[pd.DataFrame], place: Path) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    if len(twice := table["image"][table["image"].duplicated()]):
        raise LabelError(f"{place}: {twice.iloc[0]!r} is in more than one label file ({len(twice)} images)")
    return table


def _table(manifest: Manifest, names: pd.Series, mos: pd.Series, **more) -> pd.DataFrame:
    """Make a label table; names are relative to the first image folder, `image` to the dataset's folder."""
    below = "" if manifest.image_folders[0] == "." else manifest.image_folders[0].rstrip("/") + "/"
    images = (below + names.str.replace("\\", "/", regex=False)).to_numpy()
    references = [manifest.reference_of(image) for image in images]
    return pd.DataFrame({"image": images, "mos": mos.to_numpy(), "reference": references, **more})
