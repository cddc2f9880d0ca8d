"""Where things are kept, writing that a crash cannot tear, and one process at a time at one piece of work.

Run products go to ``$LIQE_RUNS`` where set, else to ``runs/`` in the checkout (without one, in the current
folder); everything that can be made or
fetched again goes to a cache folder outside the checkout: ``$LIQE_CACHE`` where set, else the user's cache
folder.
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
    import pandas as pd  # it takes longer to load than all else that a command needs to start

#: The folder that holds ``liqe_core/``; in a clone also notebooks, manifests and tests.
CHECKOUT = Path(__file__).resolve().parents[1]


CACHE_ADVICE = "set LIQE_CACHE to a folder that you may write to, on a disk with file locks"


class CacheFolderError(OSError):
    """The cache folder cannot be made; the message names it and the variable that moves it."""


class BusyError(OSError):
    """Another process is at the same work; the message names it."""


def cache_dir(*parts: str) -> Path:
    """The cache folder, or a folder below it, created when it is not there.

    ``cache_dir("mini")`` is ``$LIQE_CACHE/mini``, or ``~/.cache/liqe/mini`` on Linux.

    Raises:
        CacheFolderError: it cannot be made.
    """
    try:
        root = Path(os.environ.get("LIQE_CACHE") or platformdirs.user_cache_dir("liqe", appauthor=False))
        folder = root.expanduser().joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise CacheFolderError(f"no cache folder ({error}); {CACHE_ADVICE}") from None
    return folder


def runs_dir(*parts: str) -> Path:
    """Where products of runs go, or a folder below it: ``runs_dir("mini")`` is ``runs/mini``."""
    is_clone = (CHECKOUT / "pyproject.toml").is_file()  # else: the folder of installed packages
    top = CHECKOUT if is_clone else Path.cwd()
    return Path(os.environ.get("LIQE_RUNS") or top / "runs").expanduser().joinpath(*parts)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Readers see the old file or the whole new one, never a part: the temporary file is flushed to disk and
    renamed. When the block raises, it is removed and ``path`` stays as it was. What SIGKILL leaves behind
    is named ``.NAME.*.part`` and never mistaken for ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: several writers (numpy, matplotlib) choose the format by it.
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
    """Whether a writer failed for want of room; some, safetensors' for one, tell it in words alone."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    in_words = any(f"os error {number}" in str(error) for number in full)
    return in_words or getattr(error, "errno", None) in full


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Text in UTF-8, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_csv(path: str | os.PathLike[str], frame: pd.DataFrame) -> None:
    """A table without its index, whole or not at all."""
    with atomic_path(path) as part:
        frame.to_csv(part, index=False)


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """What JSON can hold, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(content: object) -> str:
    """SHA-256 of what JSON can hold (anything else as text), whatever the order of keys; in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def mistaken(start: bytes) -> str:
    """What a file is that was saved in place of another, by its first 512 bytes; empty where not known.

    Downloads that want a login or a confirmation leave such files, and so does a clone without Git LFS.
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (a login, say): open its address in a browser, and download the file itself"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run `git lfs pull` where it comes from, or download the file itself"
    return ""


def escaped(name: str) -> str:
    r"""A file name as one line of UTF-8 text, whatever bytes it has; `unescaped` reads it back.

    A backslash becomes ``\\``; a line break and the like ``\n``, ``\r``, ``\t``; a byte of any other control
    character, and one that is no UTF-8, ``\xe9``. Every other name is left as it is.
    """

    def escape(match: re.Match[str]) -> str:
        short = _ESCAPES.get(match[0])
        return short or "".join(f"\\x{byte:02x}" for byte in os.fsencode(match[0]))

    return re.sub("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]", escape, name)


def unescaped(text: str) -> str:
    """The file name that `escaped` was given."""
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
    """Hold the lock for work on `target`, a file or folder; it dies with its owner, however that ends.

    Args:
        wait: seconds to wait for another holder; negative: as long as it takes.
        doing: what the work is, for the message.
        lock: the lock's own file. Default: one in the cache folder, so that data folders hold data and
            read-only ones can be locked too; it keeps out processes of this machine.

    Raises:
        BusyError: another process, or another thread, holds it; says which.
    """
    if lock is None:
        name = hashlib.sha256(str(Path(target).absolute()).encode()).hexdigest()[:32]
        lock = _lock_folder() / f"{name}.lock"
    holder = Path(f"{os.fspath(lock)}.holder")
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=wait)
    except filelock.Timeout:
        owner = holder.read_text("utf-8") if holder.is_file() else "which has just begun"
        raise BusyError(
            f"{target}: another process is {doing} it ({owner}); wait for that one to end, or stop it"
        ) from None
    except OSError as error:
        raise OSError(f"{lock}: cannot be locked ({error.strerror or error}); {CACHE_ADVICE}") from None
    try:
        with contextlib.suppress(OSError):  # a full disk: only a message of another process needs it
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def _lock_folder() -> Path:
    """In the cache; where that cannot be written, the folder for temporary files: few need a cache."""
    with contextlib.suppress(CacheFolderError):
        folder = cache_dir("locks")
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.gettempdir())


def proc_value(file: str, key: str) -> str:
    """What Linux says of a key in a file below ``/proc``; empty on other systems."""
    with contextlib.suppress(OSError):
        lines = Path("/proc", file).read_text(encoding="utf-8").splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")
    return ""


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
