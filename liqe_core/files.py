"""Where things are kept, and writing that a crash cannot tear.

Run products go to ``$LIQE_RUNS`` where set, else to ``runs/`` in the checkout; everything that can be made or
fetched again goes to a cache folder outside the checkout: ``$LIQE_CACHE`` where set, else the user's cache
folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import platformdirs


def cache_dir(*parts: str) -> Path:
    """The cache folder, or a folder below it, created when it is not there.

    ``cache_dir("mini")`` is ``$LIQE_CACHE/mini``, or ``~/.cache/liqe/mini`` on Linux.
    """
    root = Path(os.environ.get("LIQE_CACHE") or platformdirs.user_cache_dir("liqe", appauthor=False))
    folder = root.expanduser().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def runs_dir(*parts: str) -> Path:
    """Where products of runs go, or a folder below it: ``runs_dir("mini")`` is ``runs/mini``."""
    root = os.environ.get("LIQE_RUNS") or Path(__file__).resolve().parents[1] / "runs"
    return Path(root).expanduser().joinpath(*parts)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Readers see the old file or the whole new one, never a part: the temporary file is flushed to disk and
    renamed. When the block raises, it is removed and ``path`` stays as it was. What SIGKILL leaves behind
    is named ``.NAME.*.part`` and never mistaken for ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: several writers (numpy, matplotlib) choose the format by it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=f".part{path.suffix}")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp makes files private; ours are like any other
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_csv(path: str | os.PathLike, frame: pd.DataFrame) -> None:
    """A table without its index, whole or not at all."""
    with atomic_path(path) as part:
        frame.to_csv(part, index=False)


def write_json(path: str | os.PathLike, content: object) -> None:
    """What JSON can hold, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
