"""One process at a time at one piece of work; the lock dies with its owner, however that ends."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from liqe_core.files import cache_dir


class BusyError(OSError):
    """Another process is at the same work; the message names it."""


@contextlib.contextmanager
def only_one(target: str | os.PathLike, wait: float = 0.0, doing: str = "writing") -> Iterator[None]:
    """Hold the lock for work on `target`, a file or folder.

    Args:
        wait: seconds to wait for another holder; negative: as long as it takes.
        doing: what the work is, for the message.

    Raises:
        BusyError: another process, or another thread, holds it.
    """
    # Kept apart from the target, so that data folders hold data and read-only ones can be locked too.
    name = hashlib.sha256(str(Path(target).absolute()).encode()).hexdigest()[:32]
    lock = filelock.FileLock(cache_dir("locks") / f"{name}.lock")
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout:
        raise BusyError(f"{target}: another process is {doing} it; wait for that one to end") from None
    try:
        yield
    finally:
        lock.release()
