"""Which of the images that labels name are in a folder, without opening one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import pandas as pd

from liqe_core.files import first_few
from liqe_core.images import list_pictures


class MissingImagesError(FileNotFoundError):
    """Images that the labels name are missing; the message counts them and names the first five."""


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
    files = list_pictures(folder)
    exact = set(files)
    lower = {name.lower(): name for name in reversed(files)}
    first = "" if pictures[0] == "." else pictures[0].rstrip("/") + "/"
    prefixes = ["" if p == "." else p.rstrip("/") + "/" for p in pictures[1:]]
    rows = []
    for image in images:
        names = [image]
        if image.startswith(first):
            names += [prefix + image.removeprefix(first) for prefix in prefixes]
        file = next((name for name in names if name in exact), None)
        match = "exact"
        if file is None:
            file = next((lower[name.lower()] for name in names if name.lower() in lower), None)
            match = "case" if file else "missing"
        rows.append((image, file, match))
    return pd.DataFrame(rows, columns=["image", "file", "match"])


def refuse_missing(
    found: pd.DataFrame,
    source: str | os.PathLike,
    advice: str = "unpack the whole archive, or use the images that are there (missing='skip')",
) -> None:
    """Raise when an image is missing.

    Args:
        found: from `find_pictures`.
        source: the folder or dataset that lacks it.

    Raises:
        MissingImagesError: with the count and the first five names.
    """
    missing = found.loc[found["match"] == "missing", "image"].tolist()
    if missing:
        raise MissingImagesError(
            f"{source}: {len(missing)} of {len(found)} images named in the labels are missing "
            f"({first_few(missing)}); {advice}"
        )
