"""Search for the labelled images in a folder, and a journal of checked files."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from liqe_core.files import first_few
from liqe_core.images import list_images


class MissingImagesError(FileNotFoundError):
    """Labelled images are missing; the message counts them and names the first five."""


def find_images(
    images: Iterable[str], folder: str | os.PathLike, image_folders: Sequence[str] = (".",)
) -> pd.DataFrame:
    """Find the images of a label table in a folder.

    Args:
        images: paths relative to `folder`, as written in the labels.
        folder: the folder of the dataset.
        image_folders: subfolders to search; labels name the first, but an image may lie in another.

    Returns:
        One row per image, in order: ``image``; ``file``, its actual path relative to `folder`, None if
        missing; ``match``: ``exact``, ``case`` (the name on disk differs in case or in the composition of
        accents) or ``missing``.
    """
    files = list_images(folder)
    exact = set(files)
    lower = {folded(name): name for name in reversed(files)}
    first, *further = ["" if p == "." else p.rstrip("/") + "/" for p in image_folders]
    rows = []
    for image in images:
        prefixes = further if image.startswith(first) else ()
        names = [image, *(prefix + image.removeprefix(first) for prefix in prefixes)]
        places: list[tuple[str | None, str]] = [(name, "exact") for name in names if name in exact]
        places += [(lower[key], "case") for key in map(folded, names) if key in lower]
        rows.append((image, *(places or [(None, "missing")])[0]))
    return pd.DataFrame(rows, columns=["image", "file", "match"])


def folded(name: str) -> str:
    """Normalize a name: names that differ in case, or in NFD (macOS) and NFC composition, become equal."""
    return unicodedata.normalize("NFC", name).lower()


def refuse_missing(
    found: pd.DataFrame,
    source: str | os.PathLike,
    advice: str = "unpack the whole archive, or use the images that exist (--missing skip)",
) -> None:
    """Raise an error if an image is missing.

    Args:
        found: from `find_images`.
        source: the searched folder or dataset, for the message.

    Raises:
        MissingImagesError: gives the count and the first five names.
    """
    missing = found.loc[found["match"] == "missing", "image"].tolist()
    if missing:
        problem = f"{len(missing)} of {len(found)} images named in the labels are missing"
        raise MissingImagesError(f"{source}: {problem} ({first_few(missing)}); {advice}")


class Journal:
    """A file with one line of JSON per checked file, with the file's size and modification time.

    Args:
        path: the file of the journal; it need not exist.
        folder: the folder that file names are relative to.
    """

    def __init__(self, path: str | os.PathLike, folder: str | os.PathLike):
        self.path, self.folder = Path(path), Path(folder)

    def stamp(self, file: str) -> dict:
        """Return the first fields of an entry: ``file``, ``size`` and ``time``.

        Raises:
            OSError: the file is missing or not readable.
        """
        stat = (self.folder / file).stat()
        return {"file": file, "size": stat.st_size, "time": stat.st_mtime_ns}

    def current(self) -> dict[str, dict]:
        """Return the last entry of each file that has not changed since."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        entries = {}
        for line in lines:
            try:
                entry = json.loads(line)
                if self.stamp(entry["file"]).items() <= entry.items():
                    entries[entry["file"]] = entry
            except (json.JSONDecodeError, KeyError, TypeError, OSError):
                continue  # a line torn by a kill, or a deleted file: the file is checked again
        return entries

    def note(self, entry: dict) -> None:
        """Append an entry."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")  # the first newline ends a line torn by a kill
