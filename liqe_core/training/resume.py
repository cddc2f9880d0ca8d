"""Saved states of a run, from which it resumes with the same result.

A state is a file ``state_0000400.pt``, where 400 is the number of steps taken. The checksums in the file
format reveal damaged states. The last two states are kept.
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
ANEW = "give another folder, or start again with --restart (restart=True in Python)"
log = logging.getLogger(__name__)


class StateError(RuntimeError):
    """Raised if the saved states of a run cannot be used. The message says what to do."""


def save_state(folder: Path, steps: int, state: Mapping) -> None:
    """Save a state, and remove all but the last `KEPT` states.

    Args:
        steps: number of steps taken, for the file name.
        state: tensors and plain values in dictionaries and lists, which are restored exactly.
    """
    content = io.BytesIO()  # Python raises OSError on a full disk, but torch does not
    torch.save(state, content)
    with atomic_path(Path(folder) / f"state_{steps:07d}.pt") as part:
        part.write_bytes(content.getbuffer())
    for old in saved_states(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def load_state(folder: Path) -> dict | None:
    """Load the latest undamaged state to the CPU; None if there are no states.

    Raises:
        StateError: if all states are damaged.
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
        log.warning("%s: %s is damaged (%s); trying the previous state", folder, path.stem, damaged_part)
    if paths:
        names = ", ".join(path.stem for path in paths)
        raise StateError(f"{folder}: {names}: all damaged; {ANEW}")
    return None


@contextlib.contextmanager
def space_explained(folder: Path) -> Iterator[None]:
    """Convert the error for a full disk to one with the last saved state and how to resume.

    Raises:
        OSError: in place of any writer's own error for a full disk.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        kept = [f"the state after {int(path.stem[6:])} steps is kept" for path in saved_states(folder)]
        problem = f"no space left for {folder}: {[*kept, 'no state is saved yet'][0]}"
        raise OSError(errno.ENOSPC, f"{problem}; free some space and run the same command again") from error


def saved_states(folder: Path) -> list[Path]:
    """Return the states in a run folder, the latest first."""
    return sorted(Path(folder).glob("state_*.pt"), reverse=True)
