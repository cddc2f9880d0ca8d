"""From names in a label table to files on a disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

#: Suffixes of files that count as pictures.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".webp")


class PicturesMissingError(FileNotFoundError):
    """Pictures that the labels name are not there; the message counts them and names the first five."""


def list_pictures(folder: str | os.PathLike) -> list[str]:
    """Paths of all pictures below a folder, relative to it, with ``/`` between, sorted; no hidden ones."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(folder).as_posix()
        prefix = "" if below == "." else below + "/"
        found += [prefix + f for f in files if f.lower().endswith(SUFFIXES) and not f.startswith(".")]
    return sorted(found)


def find_pictures(
    images: Iterable[str], folder: str | os.PathLike, pictures: Sequence[str] = (".",)
) -> pd.DataFrame:
    """Where the pictures of a label table are.

    Args:
        images: paths below `folder`, as labels have them.
        folder: the data set's folder.
        pictures: folders in it that are looked in; labels name the first, a picture may lie in another.

    Returns:
        A row an image, in order: ``image``; ``file``, its real path below `folder`, None when missing;
        ``match``: ``exact``, ``case`` (the name on the disk differs in upper and lower case) or ``missing``.
    """
    files = list_pictures(folder) if Path(folder).is_dir() else []
    exact = set(files)
    lower = {name.lower(): name for name in reversed(files)}
    first = "" if pictures[0] == "." else pictures[0].rstrip("/") + "/"
    others = ["" if p == "." else p.rstrip("/") + "/" for p in pictures[1:]]
    rows = []
    for image in images:
        names = [image]
        if image.startswith(first):
            names += [other + image.removeprefix(first) for other in others]
        file = next((name for name in names if name in exact), None)
        match = "exact"
        if file is None:
            file = next((lower[name.lower()] for name in names if name.lower() in lower), None)
            match = "case" if file else "missing"
        rows.append((image, file, match))
    return pd.DataFrame(rows, columns=["image", "file", "match"])


def refuse_missing(found: pd.DataFrame, folder: str | os.PathLike) -> None:
    """Raise when a picture is missing.

    Args:
        found: from `find_pictures`.

    Raises:
        PicturesMissingError: with the count and the first five names.
    """
    missing = found.loc[found["match"] == "missing", "image"].tolist()
    if missing:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise PicturesMissingError(
            f"{folder}: {len(missing)} of {len(found)} pictures named in the labels are not there ({names}); "
            "unpack the whole archive, or go on with those there are (missing='skip')"
        )
