"""Unpack archives made by others: nothing leaves the folder, nothing grows without end, only what is wanted.

Which members are wanted and where they go is a function from paths in the archive to paths in the folder:
`place_by_rules` (a manifest's `take`) or `place_below`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from liqe_core.data.manifest_fields import TakeFields
from liqe_core.files import first_few, only_one
from liqe_core.intake.progress import tqdm
from liqe_core.intake.transfers import FetchError, disk_full_as_error

Parts = tuple[str, ...]
Place = Callable[[Sequence[Parts]], Mapping[Parts, Parts]]

#: Images hardly shrink in an archive; what grows a hundredfold is no dataset.
MAX_RATIO = 100
SPARE = 100_000_000

# Files that other programs leave in archives.
_JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\.DS_Store$|Thumbs\.db$)")


class DamagedArchiveError(FetchError):
    """An archive is incomplete or damaged: getting it again may help."""


class Member(NamedTuple):
    """A regular file in an archive: its path there, its size in bytes, and how to open it."""

    name: Parts
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, folder: Path, place: Place, password: str | None = None, progress: bool = True
) -> None:
    """Unpack the wanted files of a zip or tar archive; its links and devices are left out.

    A file appears when it is whole, in place of one of its name.

    Args:
        place: from the paths of all members to those wanted, and where in `folder` each goes.
        password: for an encrypted zip.

    Raises:
        FetchError: a file that would leave `folder`, an archive that grows out of proportion, is damaged,
            encrypted, or of another kind; too little room on the disk. Nothing is written then, unless the
            damage shows only while unpacking.
        BusyError: another process is unpacking there.
    """
    with only_one(folder, doing="unpacking into"), _opened(archive, password) as members:
        files = {member.name: member for member in members}
        size = sum(member.size for member in files.values())
        if size > archive.stat().st_size * MAX_RATIO + SPARE:
            raise FetchError(f"{archive}: grows to {size / 1e9:.1f} GB, maybe a bomb; unpack it by hand")
        wanted = {_inside(folder, parts, archive): files[name] for name, parts in place(list(files)).items()}
        folder.mkdir(parents=True, exist_ok=True)
        needed, free = sum(member.size for member in wanted.values()), shutil.disk_usage(folder).free
        if needed > free:
            raise FetchError(f"{folder}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; make room")
        with disk_full_as_error(folder):
            for path, member in tqdm(wanted.items(), archive.name, unit="file", disable=not progress):
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f".{path.name}.unpack")
                with member.open() as source, part.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                os.replace(part, path)


def _inside(folder: Path, parts: Parts, archive: Path) -> Path:
    path = folder.joinpath(*parts)
    if ".." in parts or not path.resolve().is_relative_to(folder.resolve()):  # also by a link on the disk
        raise FetchError(f"{archive}: {'/'.join(parts)!r} would leave the folder; nothing was unpacked")
    return path


@contextlib.contextmanager
def _opened(archive: Path, password: str | None) -> Iterator[Iterator[Member]]:
    if not archive.is_file():
        raise FetchError(f"{archive}: no such archive")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened_zip:
                opened_zip.setpassword((password or "").encode())
                yield (
                    Member(split_path(info.filename), info.file_size, partial(opened_zip.open, info))
                    for info in opened_zip.infolist()
                    if stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)  # no link, no device
                    and not (info.is_dir() or _JUNK.search(info.filename))
                )
        else:
            with tarfile.open(archive) as opened_tar:
                yield (
                    Member(split_path(info.name), info.size, partial(opened_tar.extractfile, info))  # type: ignore[arg-type]
                    for info in opened_tar
                    if info.isreg() and not _JUNK.search(info.name)
                )
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
        problem = f"no zip or tar archive, or damaged ({str(error).partition(':')[0]})"
        raise DamagedArchiveError(f"{archive}: {problem}; get it again, or use 7z or bsdtar") from error
    except RuntimeError as error:  # zipfile's for a password that is missing or wrong
        raise FetchError(f"{archive}: {error}; give the password that its authors sent you") from error


def place_below(names: Sequence[Parts], depth: int) -> dict[Parts, Parts]:
    """Leave off `depth` leading folders; files above that are not wanted."""
    return {name: name[depth:] for name in names if len(name) > depth}


def place_by_rules(
    names: Sequence[Parts], archive: str, rules: Iterable[TakeFields], images: Sequence[str] | None
) -> dict[Parts, Parts]:
    """Place files as the field `take` of a manifest says.

    Args:
        names: the path of every file in the archive.
        archive: its name, for messages.
        rules: the first that places a file decides. ``from``: a folder of the archive, or a file, with ``.``
            for all of it; ``to``: where in the dataset that goes, by default ``.``; ``match``: ``path``, the
            path below is kept (its case may differ from the labels'), or ``name``, the file goes to where
            the labels have an image of its base name.
        images: the images that the labels name: no other file of a folder is taken. None: not known before
            the archive is unpacked; whole folders are taken.

    Returns:
        Path in the archive -> path in the dataset.

    Raises:
        FetchError: nothing lies where a rule says, two files would go to the same place, or images are
            matched by a name that several have.
    """
    places: dict[Parts, Parts] = {}
    for rule in rules:
        source, target, by_name = split_path(rule.source), split_path(rule.to), rule.match == "name"
        below = [name for name in names if name[: len(source)] == source]
        if not below:
            folders = first_few(sorted({"/".join(name[:2]) for name in names}))
            raise FetchError(f"{archive}: no {rule.source} in it, but {folders}; unpack it by hand")
        labelled = {(image.rsplit("/", 1)[-1] if by_name else image).lower(): image for image in images or ()}
        if by_name and (images is None or len(labelled) != len(images)):
            raise FetchError(f"{archive}: images cannot be matched by name, as the manifest's `take` says")
        for name in below:
            place = target + name[len(source) :]
            if len(name) == len(source):  # the rule names a file
                places.setdefault(name, target or name[-1:])
            elif images is None:
                places.setdefault(name, place)
            elif image := labelled.get((name[-1] if by_name else "/".join(place)).lower()):
                places.setdefault(name, split_path(image))
    for place, count in Counter(places.values()).items():
        if count > 1:
            raise FetchError(f"{archive}: {count} files would be {'/'.join(place)}; unpack it by hand")
    return places


def split_path(path: str) -> Parts:
    """The parts of a path as archives and labels write it."""
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
