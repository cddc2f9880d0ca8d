"""What a worker of a sweep does: one cell, that is one notebook with its parameters, and a record of it.

Kept apart from `sweep` so that a worker need not import torch: the notebook's own process does the work.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from liqe_core.commands import notebooks
from liqe_core.files import write_json


def run_cell(
    notebook: str | Path, folder: str | Path, parameters: Mapping[str, object], sweep: str = ""
) -> dict:
    """Run a notebook; whatever goes wrong becomes part of the record, so that the other cells go on.

    Papermill starts the notebook in a process of its own. That process looks after its parent and ends when
    it is gone, so a worker that is killed leaves nothing behind that trains on, and the run folder's lock is
    free again for whoever takes the cell up.

    Args:
        notebook: the notebook's file.
        folder: the cell's own: the executed notebook, its figures, and ``outcome.json``.
        parameters: for the notebook.
        sweep: names this sweep. Dask runs a task again when the worker that holds its result dies; a cell
            that this sweep has run to its end is then only read.

    Returns:
        The record, as in ``outcome.json``: `cell` (the folder's name), `sweep`, `ok`, `seconds`, `error`,
        `traceback`, `notebook` (the executed copy), `worker` (the machine's name).
    """
    started = time.perf_counter()
    path, folder = Path(notebook), Path(folder)
    before = read_outcome(folder)
    if sweep and before.get("sweep") == sweep:
        return before
    try:
        (one,) = notebooks.run([path.stem], folder, parameters, progress=False, folder=path.parent)
        error, trace = one.error, one.traceback
    except Exception as failed:  # papermill itself, a full disk: a cell that failed like any other
        error, trace = f"{type(failed).__name__}: {failed}", traceback.format_exc()
    record = {
        "cell": folder.name,
        "sweep": sweep,
        "ok": not error,
        "seconds": round(time.perf_counter() - started, 1),
        "error": error,
        "traceback": trace,
        "notebook": str(folder / path.name),
        "worker": socket.gethostname(),
    }
    with contextlib.suppress(OSError):  # the record also travels back by itself
        write_json(folder / "outcome.json", record)
    return record


def read_outcome(folder: str | Path) -> dict:
    """The record of a cell's last run, or {} where there is none that can be read."""
    try:
        return json.loads((Path(folder) / "outcome.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
