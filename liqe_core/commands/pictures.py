"""Which pictures a command is to look at: files, folders and lists of them, and what of them is left out."""

from __future__ import annotations

import codecs
import dataclasses
import fnmatch
import io
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Names that a reason is shown with.
EXAMPLES = 3

#: Bytes of a path, at most, on Linux; other systems take less.
LONGEST = 4096


@dataclasses.dataclass
class Chosen:
    """What is to be looked at.

    Attributes:
        pictures: paths as they were given, or below a folder as it was given; one may be there twice.
        left_out: what was not taken, by the reason why.
    """

    pictures: list[str] = dataclasses.field(default_factory=list)
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def summary(self) -> list[str]:
        """A line for each reason: how many, and the first of them."""
        from liqe_core.data.presence import some

        return [
            f"left out, {why}: {len(names)} ({some(names, EXAMPLES)})" for why, names in self.left_out.items()
        ]


def choose(given: Iterable[str], include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Chosen:
    """Files as they are, so that an error can name them, and of folders the pictures in them and below.

    Args:
        include: glob patterns; take only what matches one, by its name or by its path (below the folder,
            where it is from one).
        exclude: glob patterns likewise; what matches one is left out.

    Raises:
        PictureError: a folder without pictures, or nothing is left.
    """
    from liqe_core.images import PictureError, no_picture_in, survey

    chosen = Chosen()
    for one in given:
        folder = Path(one)
        if os.path.isdir(one):  # False of a name that is too long or none: what reads it says so
            found = survey(folder)
            for why, names in found.left_out.items():
                chosen.left_out.setdefault(why, []).extend(str(folder / name) for name in names)
            if not found.pictures:
                told = "".join(f"\n{line}" for line in chosen.summary())
                raise PictureError(f"{no_picture_in(folder)}{told}")
            below = [(str(folder / name), name) for name in found.pictures]
        else:
            below = [(one, one)]
        for path, name in below:
            if include and not _matches(name, include):
                chosen.left_out.setdefault("not included", []).append(path)
            elif _matches(name, exclude):
                chosen.left_out.setdefault("excluded", []).append(path)
            else:
                chosen.pictures.append(path)
    if not chosen.pictures:
        raise PictureError("no picture is left: give some, or other patterns to --include and --exclude")
    return chosen


def read_list(path: str) -> list[str]:
    """The paths in a file, ``-`` for standard input: a line each, or each ended by a zero byte, as
    ``find -print0`` writes them. Empty lines are passed over.

    Raises:
        ValueError: the file cannot be read, or is no list.
    """
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"--from-file {path}: {error.strerror}; give a file of paths, or -") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes it
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise ValueError(f"--from-file {path}: no text in UTF-16 ({error}); save it as UTF-8") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    if b"\0" in content:
        names = content.split(b"\0")
    else:
        names = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    if max(map(len, names)) > LONGEST or _is_picture(content):
        raise ValueError(
            f"--from-file {path}: no list of paths, a line each; a picture is given without --from-file"
        )
    return [os.fsdecode(name) for name in names if name.strip()]


def _is_picture(content: bytes) -> bool:
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)):
            return True
    except Exception:  # whatever the reader of a format makes of text
        return False


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = os.path.basename(path)
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(name, p) for p in patterns)
