"""Folders, atomic writes, checksums and locks.

Run products are saved in ``$LIQE_RUNS`` if it is set, otherwise in ``runs/`` of the checkout, or of the
current folder without a checkout. Everything that can be built or downloaded again is saved in a cache folder
outside the checkout: ``$LIQE_CACHE`` if it is set, otherwise the user's cache folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import platformdirs

if TYPE_CHECKING:
    import pandas as pd  # takes longer to import than everything else that a command needs at startup

#: The folder with ``liqe_core/``; in a clone, also with notebooks, manifests and tests.
CHECKOUT = Path(__file__).resolve().parents[1]


CACHE_ADVICE = "set LIQE_CACHE to a folder that you may write to, on a disk with file locks"


class CacheFolderError(OSError):
    """Raised if the cache folder cannot be created. The message names it and the variable to change it."""


class BusyError(OSError):
    """Raised if another process works on the same target. The message names the process."""


def cache_dir(*parts: str) -> Path:
    """Return the cache folder or a subfolder of it, and create it if it is missing.

    ``cache_dir("mini")`` is ``$LIQE_CACHE/mini``, or ``~/.cache/liqe/mini`` on Linux.

    Raises:
        CacheFolderError: if the folder cannot be created.
    """
    try:
        root = Path(os.environ.get("LIQE_CACHE") or platformdirs.user_cache_dir("liqe", appauthor=False))
        folder = root.expanduser().joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise CacheFolderError(f"cannot create the cache folder ({error}); {CACHE_ADVICE}") from None
    return folder


def runs_dir(*parts: str) -> Path:
    """Return the folder for run products, or a subfolder: ``runs_dir("mini")`` is ``runs/mini``."""
    is_clone = (CHECKOUT / "pyproject.toml").is_file()  # otherwise the folder of installed packages
    top = CHECKOUT if is_clone else Path.cwd()
    return Path(os.environ.get("LIQE_RUNS") or top / "runs").expanduser().joinpath(*parts)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and replace ``path`` with it if the block succeeds.

    The temporary file is flushed to disk and then renamed, so readers see the old file or the complete new
    one. If the block raises, the temporary file is removed and ``path`` stays unchanged. After SIGKILL, a
    file ``.NAME.*.part`` may remain, which is never mistaken for ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, because several writers (numpy, matplotlib) choose the format by it.
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    part.touch(exist_ok=False)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Return whether a writer failed because the disk is full.

    Some writers, for example safetensors, report it only in the text of the error.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    in_words = any(f"os error {number}" in str(error) for number in full)
    return in_words or getattr(error, "errno", None) in full


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text in UTF-8 atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_csv(path: str | os.PathLike[str], frame: pd.DataFrame) -> None:
    """Write a table without its index atomically."""
    with atomic_path(path) as part:
        frame.to_csv(part, index=False)


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Write JSON content atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(content: object) -> str:
    """Return the SHA-256 of JSON content in hexadecimal digits, independent of the order of keys.

    Objects of other types are converted to strings.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def mistaken(start: bytes) -> str:
    """Recognise a file that was saved in place of the expected one, from its first 512 bytes; empty if none.

    Downloads that require a login or a confirmation leave such files, and so does a clone without Git LFS.
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (for example a login): open its address in a browser and download the file itself"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run `git lfs pull` in its repository, or download the file itself"
    return ""


def escaped(name: str) -> str:
    r"""Escape any file name to one line of UTF-8 text; `unescaped` is the inverse.

    A backslash becomes ``\\``. Line breaks and tabs become ``\n``, ``\r`` and ``\t``. The bytes of other
    control characters, and bytes that are not valid UTF-8, become for example ``\xe9``. Other characters stay
    unchanged.
    """

    def escape(match: re.Match[str]) -> str:
        short = _ESCAPES.get(match[0])
        return short or "".join(f"\\x{byte:02x}" for byte in os.fsencode(match[0]))

    return re.sub("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]", escape, name)


def unescaped(text: str) -> str:
    """Return the file name that `escaped` converted to `text`."""
    return os.fsdecode(
        re.sub(
            rb"\\(?:[\\nrt]|x[0-9a-f]{2})",
            lambda match: match[0].decode("unicode_escape").encode("latin-1"),
            os.fsencode(text),
        )
    )


_ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


@contextlib.contextmanager
def only_one(
    target: str | os.PathLike[str],
    wait: float = 0.0,
    doing: str = "writing",
    lock: str | os.PathLike[str] | None = None,
) -> Iterator[None]:
    """Hold an exclusive lock on `target`, a file or folder. The lock is released when its process ends.

    Args:
        wait: seconds to wait for another holder; negative: no limit.
        doing: the verb for the work in the error message.
        lock: path of the lock file. By default it is in the cache folder, so that data folders contain only
            data and can be read-only. Such a lock only excludes processes of the same machine.

    Raises:
        BusyError: if another process or thread holds the lock. The message names it.
    """
    if lock is None:
        name = hashlib.sha256(str(Path(target).absolute()).encode()).hexdigest()[:32]
        lock = _lock_folder() / f"{name}.lock"
    holder = Path(f"{os.fspath(lock)}.holder")
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=wait)
    except filelock.Timeout:
        owner = holder.read_text("utf-8") if holder.is_file() else "just started"
        raise BusyError(
            f"{target}: another process is {doing} it ({owner}); wait until it ends, or stop it"
        ) from None
    except OSError as error:
        raise OSError(f"{lock}: cannot be locked ({error.strerror or error}); {CACHE_ADVICE}") from None
    try:
        with contextlib.suppress(OSError):  # for example a full disk: the file only serves error messages
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def _lock_folder() -> Path:
    """Return the folder for lock files in the cache.

    If the cache is read-only, return the folder for temporary files, since most commands need no cache.
    """
    with contextlib.suppress(CacheFolderError):
        folder = cache_dir("locks")
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.gettempdir())


def proc_value(file: str, key: str) -> str:
    """Return the value of a key in a file below ``/proc``; empty on systems other than Linux."""
    with contextlib.suppress(OSError):
        lines = Path("/proc", file).read_text(encoding="utf-8").splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")
    return ""


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Join the first few names for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
