"""Which of the images that labels name are in a folder, and a journal of what was found of its files."""

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
    """Images that the labels name are missing; the message counts them and names the first five."""


def find_images(
    images: Iterable[str], folder: str | os.PathLike, image_folders: Sequence[str] = (".",)
) -> pd.DataFrame:
    """Where the images of a label table are.

    Args:
        images: paths below `folder`, as labels have them.
        folder: the dataset's folder.
        image_folders: folders in it that are looked in; labels name the first, an image may lie in another.

    Returns:
        A row an image, in order: ``image``; ``file``, its real path below `folder`, None when missing;
        ``match``: ``exact``, ``case`` (the name on the disk differs in upper and lower case, or in how its
        accents are composed) or ``missing``.
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
    """The same for names that differ in case, or as those of macOS (NFD) do from those of others (NFC)."""
    return unicodedata.normalize("NFC", name).lower()


def refuse_missing(
    found: pd.DataFrame,
    source: str | os.PathLike,
    advice: str = "unpack the whole archive, or use the images that are there (--missing skip)",
) -> None:
    """Raise when an image is missing.

    Args:
        found: from `find_images`.
        source: the folder or dataset that lacks it.

    Raises:
        MissingImagesError: with the count and the first five names.
    """
    missing = found.loc[found["match"] == "missing", "image"].tolist()
    if missing:
        problem = f"{len(missing)} of {len(found)} images named in the labels are missing"
        raise MissingImagesError(f"{source}: {problem} ({first_few(missing)}); {advice}")


class Journal:
    """A line of JSON for each file that was looked at, with its size and time then.

    Args:
        path: the journal's own file; it need not be there.
        folder: the one that the files' names are relative to.
    """

    def __init__(self, path: str | os.PathLike, folder: str | os.PathLike):
        self.path, self.folder = Path(path), Path(folder)

    def stamp(self, file: str) -> dict:
        """What an entry starts with: ``file``, ``size`` and ``time``.

        Raises:
            OSError: the file is not there, or may not be looked at.
        """
        stat = (self.folder / file).stat()
        return {"file": file, "size": stat.st_size, "time": stat.st_mtime_ns}

    def current(self) -> dict[str, dict]:
        """The last entry of each file that has not changed since."""
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
                continue  # a line that was torn by a kill, or a file that went away: looked at again
        return entries

    def note(self, entry: dict) -> None:
        """Add an entry."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")  # what a kill tore off ends before it
