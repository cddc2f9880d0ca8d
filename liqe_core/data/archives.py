"""Safe unpacking of third-party archives: no path outside the folder, a size limit, only the needed files.

A function from paths in the archive to paths in the folder selects the members and their places. Archives of
one dataset differ in their folders, so files are matched by the ends of their paths: `place_files` finds
label files, and `place_images` finds the images that the labels name.
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

#: Images hardly compress further; an archive that grows a hundredfold is not a dataset.
MAX_RATIO = 100
SPARE = 100_000_000

# Files that other programs leave in archives.
_JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\.DS_Store$|Thumbs\.db$)")


class DamagedArchiveError(FetchError):
    """An archive is incomplete or damaged; another download may help."""


class Member(NamedTuple):
    """A regular file in an archive: its path, its size in bytes, and a function that opens it."""

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
    """Unpack the needed files of a zip or tar archive; links and devices are skipped.

    Each file is written completely before it replaces an existing file of the same name.

    Args:
        places: functions from the paths of all members to the needed ones and their paths in `folder`. Each
            is called after the files of the previous one are unpacked.
        password: for an encrypted zip.

    Raises:
        FetchError: a file would leave `folder`; the archive grows out of proportion, is damaged, encrypted,
            of an unknown format, or holds no needed file; the disk has too little space.
        BusyError: another process is unpacking into `folder`.
    """
    with only_one(folder, doing="unpacking into"), _opened(archive, password) as members:
        files = {member.name: member for member in members}
        size = sum(member.size for member in files.values())
        if size > archive.stat().st_size * MAX_RATIO + SPARE:
            raise FetchError(f"{archive}: unpacks to {size / 1e9:.1f} GB, maybe a bomb; unpack it by hand")
        count = 0
        for targets in (place(list(files)) for place in places):
            # In the order of the archive: going back in a compressed tar means reading it from the start.
            wanted = {
                _inside(folder, targets[name], archive): files[name] for name in files if name in targets
            }
            _write(archive.name, folder, wanted, progress)
            count += len(wanted)
        if not count:
            folders = first_few(sorted({"/".join(name[:-1]) for name in files}))
            raise FetchError(f"{archive}: holds none of the files that the labels name, only {folders}")


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
    if ".." in parts or not path.resolve().is_relative_to(folder.resolve()):  # follows symbolic links
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
        problem = f"not a zip or tar archive, or damaged ({str(error).partition(':')[0]})"
        raise DamagedArchiveError(f"{archive}: {problem}; download it again, or use 7z or bsdtar") from error
    except RuntimeError as error:  # raised by zipfile for a missing or wrong password
        raise FetchError(f"{archive}: {error}; pass the password that its authors sent you") from error


def place_files(names: Sequence[Parts], files: Iterable[str]) -> dict[Parts, Parts]:
    """Find the first of `files` that an archive holds: a file, or a folder and everything below it.

    It may lie in any folder; the topmost match counts. Case is ignored.
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
    """Find the labelled images in an archive and return their target paths; other files are skipped.

    A file matches an image if its path ends with the path of the image, ignoring case. While no file
    matches, the topmost folder is removed from the paths of all images.

    Args:
        archive: name of the archive, for messages.

    Raises:
        FetchError: two files match one image, or one file matches two images.
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
            raise FetchError(f"{archive}: {problem}, so the images are ambiguous; unpack it by hand")
        if places:
            return places
    return {}


def _folded(parts: Parts) -> Parts:
    return tuple(map(folded, parts))


def split_path(path: str) -> Parts:
    """Split a path, as written in archives and labels, into its parts."""
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
