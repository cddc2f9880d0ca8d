"""Unpacking archives from elsewhere: nothing leaves its folder, nothing explodes, nothing is left half."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from liqe_core.files import only_one
from liqe_core.intake.hub import FetchError, disk_full_said_plainly
from liqe_core.intake.progress import tqdm

#: Pictures hardly shrink in an archive; what grows a hundredfold is no data set.
MAX_RATIO = 100
_SPARE = 100_000_000

# What other programs leave in archives and nobody wants.
_JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\.DS_Store$|Thumbs\.db$)")


class DamagedArchiveError(FetchError):
    """An archive is not whole, or not what it should be: getting it again may help."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: as in the archive. parts: its path, checked. size: bytes, as the archive says.
        crc: CRC-32, or None for tar. time: seconds since 1970, or None for zip.
        open: gives its content.
    """

    name: str
    parts: tuple[str, ...]
    size: int
    crc: int | None
    time: int | None
    open: Callable[[], IO[bytes]]


def unpack(
    archive: str | os.PathLike,
    folder: str | os.PathLike,
    strip: int = 0,
    only: Sequence[str] = (),
    password: str | None = None,
    max_ratio: float | None = MAX_RATIO,
    progress: bool = True,
    placed: Callable[[Sequence[tuple[str, ...]]], Mapping[tuple[str, ...], tuple[str, ...]]] | None = None,
    kept: bool = True,
) -> list[Path]:
    """Unpack a zip or tar archive; a second call goes on where the first was stopped.

    Every member is looked at before the first is written. A file appears only when it is whole; one that is
    there already with the right size and checksum (zip) or time (tar) is left.

    Args:
        strip: how many leading folders of the members' names to leave off; members above that are left out.
        only: the folders that a member must lie in after that, which are left off too; others are left out.
        password: for an encrypted zip.
        max_ratio: refuse an archive that grows more than this; None: no limit.
        placed: in place of `strip` and `only`: from the paths of all members to those wanted, and where in
            `folder` each goes. What it raises is raised before anything is written.
        kept: whether the caller keeps what was written when the disk is full; only for the message.

    Returns:
        The paths of all files that were wanted.

    Raises:
        FetchError: a member that would leave `folder` or is a link or device, an archive that grows out of
            proportion, is damaged, encrypted, or of another kind; too little room on the disk.
        BusyError: another process is unpacking there.
    """
    archive, folder = Path(archive), Path(folder)
    with only_one(folder, doing="unpacking into"), _opened(archive, password) as members:
        checked = _checked(archive, members, max_ratio)
        if placed is None:
            placed = partial(_below, strip=strip, only=tuple(only))
        to = placed([member.parts for member in checked])
        # Where a file goes may stand in a label file, which is from elsewhere as well.
        wanted = [
            (m, folder.joinpath(*_parts(archive, "/".join(to[m.parts])))) for m in checked if m.parts in to
        ]
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_links_below(archive, folder, {path.parent for _, path in wanted})
        to_do = [(member, path) for member, path in wanted if not _is_there(member, path)]
        needed, free = sum(member.size for member, _ in to_do), shutil.disk_usage(folder).free
        if needed > free:
            raise FetchError(
                f"{folder}: {archive.name} needs {needed / 1e9:.1f} GB there, {free / 1e9:.1f} GB are free; "
                "make room"
            )
        bar = tqdm(
            total=len(wanted),
            initial=len(wanted) - len(to_do),
            desc=archive.name,
            unit="file",
            disable=not progress,
        )
        with bar, disk_full_said_plainly(folder, kept):
            for member, path in to_do:
                _write(archive, member, path)
                bar.update()
    return [path for _, path in wanted]


def member_names(archive: str | os.PathLike, password: str | None = None) -> list[tuple[str, ...]]:
    """The path of every file in an archive, after the same checks as `unpack`."""
    with _opened(Path(archive), password) as members:
        return [member.parts for member in _checked(Path(archive), members, MAX_RATIO)]


def _below(names: Sequence[tuple[str, ...]], strip: int, only: tuple[str, ...]) -> dict:
    off = strip + len(only)
    return {name: name[off:] for name in names if name[strip:off] == only and len(name) > off}


def _write(archive: Path, member: Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.unpack")
    with member.open() as source, part.open("wb") as file:
        left = member.size
        while chunk := source.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise FetchError(
                    f"{archive}: {member.name!r} is longer than the archive says; do not trust it"
                )
            file.write(chunk)
    if left:
        raise DamagedArchiveError(f"{archive}: {member.name!r} is {left} bytes short; get the archive again")
    if member.time is not None:
        os.utime(part, (member.time, member.time))  # before the rename: the time says that it is whole
    os.replace(part, path)


def _is_there(member: Member, path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_size != member.size or not stat.S_ISREG(found.st_mode):
        return False
    if member.crc is None:
        return int(found.st_mtime) == member.time
    return zlib.crc32(path.read_bytes()) == member.crc


def _checked(archive: Path, members: Iterator[Member], max_ratio: float | None) -> list[Member]:
    """All members, once every one has passed; stops at the first that makes the sum too large."""
    limit = None if max_ratio is None else archive.stat().st_size * max_ratio + _SPARE
    checked, total, seen = [], 0, set()
    for member in members:
        total += member.size
        if limit is not None and total > limit:
            raise FetchError(
                f"{archive}: grows from {archive.stat().st_size / 1e9:.3f} to over {limit / 1e9:.1f} GB, "
                "possibly a decompression bomb; if you trust it, unpack it with max_ratio=None"
            )
        if member.parts in seen:
            raise FetchError(f"{archive}: {member.name!r} is in it twice; unpack it by hand")
        seen.add(member.parts)
        if not _JUNK.search(member.name):
            checked.append(member)
    return checked


def _parts(archive: Path, name: str) -> tuple[str, ...]:
    plain = name.replace("\\", "/")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in parts or "\0" in plain or not parts:
        raise FetchError(f"{archive}: member {name!r} would leave the folder; nothing was unpacked")
    return parts


def _refuse_links_below(archive: Path, folder: Path, parents: set[Path]) -> None:
    """A link that lies in the folder already would lead out as well."""
    top = folder.resolve()
    for parent in parents:
        if not parent.resolve().is_relative_to(top):
            raise FetchError(f"{parent}: a link out of {folder} is in the way of {archive.name}; remove it")


@contextlib.contextmanager
def _opened(archive: Path, password: str | None) -> Iterator[Iterator[Member]]:
    try:
        with archive.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise FetchError(f"{archive}: no such archive") from None
    except IsADirectoryError:
        raise FetchError(f"{archive}: a folder, not an archive; nothing to unpack") from None
    for magic, kind in ((b"Rar!", "RAR"), (b"7z\xbc\xaf", "7z")):
        if start.startswith(magic):
            raise FetchError(f"{archive}: a {kind} archive; unpack it with 7z or bsdtar, then run status")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield _zip_members(archive, opened, password)
        else:
            with tarfile.open(archive) as opened:
                yield _tar_members(archive, opened)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
        why = "of no kind that is known" if "\n" in str(error) else error  # tarfile lists all it has tried
        raise DamagedArchiveError(
            f"{archive}: no archive, or damaged or cut short ({why}); get it again"
        ) from error


def _zip_members(archive: Path, opened: zipfile.ZipFile, password: str | None) -> Iterator[Member]:
    for info in opened.infolist():
        parts = _parts(archive, info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise FetchError(
                f"{archive}: member {info.filename!r} is a link or a device; nothing was unpacked"
            )
        if info.flag_bits & 1 and password is None:
            raise FetchError(f"{archive}: encrypted; give the password that its authors sent you")
        if not info.is_dir():
            yield Member(
                info.filename,
                parts,
                info.file_size,
                info.CRC,
                None,
                _zip_opener(archive, opened, info, password),
            )


def _zip_opener(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo, password: str | None):
    def content() -> IO[bytes]:
        try:
            return opened.open(info, pwd=password.encode() if password else None)
        except RuntimeError as error:  # what zipfile raises for a wrong password
            raise FetchError(f"{archive}: {error}") from None

    return content


def _tar_members(archive: Path, opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        if info.isdir() and info.name.strip("./") == "":
            continue
        parts = _parts(archive, info.name)
        if not info.isdir() and not info.isreg():
            raise FetchError(f"{archive}: member {info.name!r} is a link or a device; nothing was unpacked")
        if info.isreg():
            yield Member(
                info.name, parts, info.size, None, int(info.mtime), partial(_extracted, opened, info)
            )


def _extracted(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(info)
    assert content is not None, "a regular file has content"
    return content
