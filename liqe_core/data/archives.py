"""Unpack archives made by others: nothing leaves the folder, nothing grows without end, only what is wanted.

Which members are wanted and where they go is a function from paths in the archive to paths in the folder.
Archives of one dataset differ in their folders, so files are found by the ends of their paths: `place_files`
finds label files, `place_images` the images that these name.
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

from liqe_core.data.presence import folded
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
    archive: Path,
    folder: Path,
    places: Iterable[Place],
    password: str | None = None,
    progress: bool = True,
) -> None:
    """Unpack the wanted files of a zip or tar archive; its links and devices are left out.

    A file appears when it is whole, in place of one of its name.

    Args:
        places: each from the paths of all members to those wanted, and where in `folder` they go; called when
            the files of the one before it are there.
        password: for an encrypted zip.

    Raises:
        FetchError: a file that would leave `folder`, an archive that grows out of proportion, is damaged,
            encrypted, of another kind, or holds nothing that is wanted; too little room on the disk.
        BusyError: another process is unpacking there.
    """
    with only_one(folder, doing="unpacking into"), _opened(archive, password) as members:
        files = {member.name: member for member in members}
        size = sum(member.size for member in files.values())
        if size > archive.stat().st_size * MAX_RATIO + SPARE:
            raise FetchError(f"{archive}: grows to {size / 1e9:.1f} GB, maybe a bomb; unpack it by hand")
        count = 0
        for targets in (place(list(files)) for place in places):
            # In the order of the archive: a compressed tar is read again from its start to go back.
            wanted = {
                _inside(folder, targets[name], archive): files[name] for name in files if name in targets
            }
            _write(archive.name, folder, wanted, progress)
            count += len(wanted)
        if not count:
            folders = first_few(sorted({"/".join(name[:-1]) for name in files}))
            raise FetchError(f"{archive}: none of the files that the labels name, but {folders}")


def _write(name: str, folder: Path, wanted: Mapping[Path, Member], progress: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(member.size for member in wanted.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(f"{folder}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; make room")
    with disk_full_as_error(folder):
        for path, member in tqdm(wanted.items(), name, unit="file", disable=not progress or not wanted):
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


def place_files(names: Sequence[Parts], files: Iterable[str]) -> dict[Parts, Parts]:
    """Where the first of `files` goes that an archive has: a file, or a folder and all below it.

    It may lie in any folder, the uppermost one counts; case is ignored.
    """
    for file in files:
        places: dict[Parts, Parts] = {}
        for name in sorted(names, key=len):
            _, found, below = "/".join(("", *name, "")).lower().partition(f"/{file.lower()}/")
            if found:
                places.setdefault((*split_path(file), *name[len(name) - below.count("/") :]), name)
        if places:
            return {name: target for target, name in places.items()}
    return {}


def place_images(names: Sequence[Parts], images: Iterable[str], archive: str) -> dict[Parts, Parts]:
    """Where the images go that labels name; the other files of an archive are not wanted.

    An image is the file whose path ends like its own, case ignored. Where no file does, the uppermost folder
    of all images is left off, until some are found.

    Args:
        archive: its name, for messages.

    Raises:
        FetchError: an image is found twice, or a file is two images.
    """
    parts, ends = [split_path(image) for image in images], {name: _folded(name) for name in names}
    for above in range(max(map(len, parts), default=0)):
        wanted = {_folded(image[above:] or image[-1:]): image for image in parts}
        lengths = sorted({len(key) for key in wanted})
        found = ((name, path[-length:]) for name, path in ends.items() for length in lengths)
        places = {name: wanted[end] for name, end in found if end in wanted}
        doubled = [place for place, count in Counter(places.values()).items() if count > 1]
        if places and (doubled or len(wanted) < len(parts)):
            fitting = sorted("/".join(name) for name, place in places.items() if place in doubled[:1])
            problem = f"{' and '.join(fitting)} both fit {'/'.join(doubled[0])}" if doubled else "no folders"
            raise FetchError(f"{archive}: {problem}, so images cannot be told apart; unpack it by hand")
        if places:
            return places
    return {}


def _folded(parts: Parts) -> Parts:
    return tuple(map(folded, parts))


def split_path(path: str) -> Parts:
    """The parts of a path as archives and labels write it."""
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
