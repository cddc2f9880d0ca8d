"""A folder of pictures scored by any callables: the table that `gmad` competes over.

A scorer is anything that takes a path and gives a number, higher for better quality:
``{"liqe": lambda path: model.score(path).quality.item(), "size": lambda path: path.stat().st_size}``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pandas as pd

from .files import atomic_path

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_STAMP = ["file_bytes", "modified_ns"]
_SAVE_EVERY = 5.0  # seconds; what a killed run loses at most, besides the picture in work


def score_folder(
    folder: str | os.PathLike,
    scorers: Mapping[str, Callable[[Path], float]],
    cache: str | os.PathLike | None = None,
    on_picture: Callable[[str], None] | None = None,
    only: Collection[str] | None = None,
) -> pd.DataFrame:
    """Scores every picture in a folder, and below it, with every scorer.

    A picture that a scorer cannot read does not stop the others: its score is missing and `error` says why.
    With a cache, a run that was cut short goes on where it was: a score is taken from the file while the
    picture's size and time of change are the same. Missing scores are tried again. A score belongs to the
    scorer's name, so give a changed scorer another name.

    Args:
        folder: where the pictures are; a picture is a file with one of `SUFFIXES`, in any case.
        scorers: name to callable; a callable gets the path and returns a number.
        cache: a CSV file, read when it is there and rewritten as the work goes on.
        on_picture: called with each picture's name before it is scored (a progress bar's place).
        only: names of pictures, their path below `folder` with "/"; the others are left out.

    Returns:
        A row a picture, sorted, its path below `folder` with "/" as the index `image`; a float column a
        scorer, in the order of `scorers`; `error`, "" where every scorer gave a finite number, else
        "NAME: what went wrong", one after another with "; ".

    Raises:
        NotADirectoryError: no such folder. ValueError: no scorer, a reserved name, no picture in the
        folder, or a cache file that is none.
    """
    folder = Path(folder)
    if not scorers:
        raise ValueError("no scorers: name at least one, {'name': callable(path) -> number}")
    reserved = {"image", "error", *_STAMP} & set(scorers)
    if reserved:
        raise ValueError(f"a scorer cannot be called {reserved.pop()!r}: that column has a meaning already")
    names = pictures_in(folder)
    if only is not None:
        if missing := sorted(set(only) - set(names)):
            raise ValueError(f"{folder} has no picture {missing[0]!r}: give paths below the folder")
        names = sorted(set(only))

    known = _read(cache)
    rows: dict[str, dict] = {}
    last_save = time.monotonic()
    try:
        for name in names:
            path = folder / name
            stat = path.stat()
            stamp = {"file_bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
            row = known.get(name, {})
            if any(row.get(key) != value for key, value in stamp.items()):
                row = {}  # another picture now has this name
            # Scores of scorers that this call does not name stay in the cache.
            rows[name] = row = {**row, **stamp, "error": ""}
            todo = [scorer for scorer in scorers if pd.isna(row.get(scorer))]
            if todo and on_picture:
                on_picture(name)
            errors = [error for scorer in todo if (error := _score(path, scorer, scorers[scorer], row))]
            row["error"] = "; ".join(errors)
            if cache and time.monotonic() - last_save > _SAVE_EVERY:
                _write(cache, {**known, **rows})
                last_save = time.monotonic()
    finally:
        if cache:  # also when the run is interrupted
            _write(cache, {**known, **rows})
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("image")
    return table.reindex(columns=[*scorers, "error"]).astype(dict.fromkeys(scorers, float))


def pictures_in(folder: str | os.PathLike) -> list[str]:
    """The pictures in a folder and below it, sorted: their paths below it, with "/".

    Raises:
        NotADirectoryError: no such folder. ValueError: no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: name the one that holds the pictures")
    pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not pictures:
        raise ValueError(f"no picture in {folder}: looked for {', '.join(sorted(SUFFIXES))}")
    return [path.relative_to(folder).as_posix() for path in pictures]


def _score(path: Path, name: str, scorer: Callable[[Path], float], row: dict) -> str:
    """Puts the score in the row; what went wrong, or ""."""
    row[name] = float("nan")
    try:
        value = float(scorer(path))
    except Exception as error:  # whatever a scorer raises, the other pictures still count
        return f"{name}: {' '.join(f'{type(error).__name__}: {error}'.split())}"
    if abs(value) < float("inf"):
        row[name] = value
        return ""
    return f"{name}: the score is {value}"


def _read(cache: str | os.PathLike | None) -> dict[str, dict]:
    if cache is None or not Path(cache).exists():
        return {}
    try:
        table = pd.read_csv(cache, dtype={"image": str, "error": str}, keep_default_na=True)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(f"{cache} cannot be read as CSV ({error}): delete it or name another") from error
    missing = {"image", "error", *_STAMP} - set(table.columns)
    if missing:
        raise ValueError(f"{cache} is no cache of scores (no column {missing.pop()!r}): name another file")
    return table.set_index("image").to_dict("index")


def _write(cache: str | os.PathLike, rows: dict[str, dict]) -> None:
    with atomic_path(cache) as part:
        pd.DataFrame.from_dict(rows, orient="index").rename_axis("image").to_csv(part)
