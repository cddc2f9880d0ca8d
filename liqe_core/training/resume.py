"""The state of a run on disk, so that stopping it anywhere costs minutes and changes nothing.

A state is a file ``state_0000400.pt``, where 400 is how many steps had been taken. The checksums that its
format carries tell a damaged one, and the last two are kept.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch

from liqe_core.files import atomic_path, is_disk_full

KEPT = 2
ANEW = "give another folder, or train anew with --restart (in Python restart=True)"
log = logging.getLogger(__name__)


class StateError(RuntimeError):
    """The saved states of a run cannot be used; the message says what to do."""


def save_state(folder: Path, steps: int, state: Mapping) -> None:
    """Write a state and remove all but the last `KEPT`.

    Args:
        steps: taken so far; the state's name.
        state: tensors and plain values in dictionaries and lists; every bit comes back.
    """
    content = io.BytesIO()  # a full disk is an OSError where Python writes, and not where torch does
    torch.save(state, content)
    with atomic_path(Path(folder) / f"state_{steps:07d}.pt") as part:
        part.write_bytes(content.getbuffer())
    for old in saved_states(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def load_state(folder: Path) -> dict | None:
    """The latest state that is whole, on the CPU; None where none was ever saved.

    Raises:
        StateError: there are states, and all are damaged.
    """
    paths = saved_states(folder)
    for path in paths:
        try:
            with ZipFile(path) as archive:
                damaged_part = archive.testzip()
        except (OSError, BadZipFile) as error:
            damaged_part = str(error)
        if damaged_part is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        log.warning("%s: %s is damaged (%s); trying the one before it", folder, path.stem, damaged_part)
    if paths:
        names = ", ".join(path.stem for path in paths)
        raise StateError(f"{folder}: {names}: damaged; {ANEW}")
    return None


@contextlib.contextmanager
def space_explained(folder: Path) -> Iterator[None]:
    """A full disk as an error that says what was kept and how to go on.

    Raises:
        OSError: instead of any writer's own error for it.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        kept = [f"the state after {int(path.stem[6:])} steps is kept" for path in saved_states(folder)]
        problem = f"no space left for {folder}: {[*kept, 'no state is there yet'][0]}"
        raise OSError(errno.ENOSPC, f"{problem}; free some and start the same command again") from error


def saved_states(folder: Path) -> list[Path]:
    """The states in a run's folder, the latest first."""
    return sorted(Path(folder).glob("state_*.pt"), reverse=True)
