"""A sweep: the grid sessions x variants x seeds as papermill runs of a notebook, on Dask distributed.

    python -m liqe_core sweep --profile mini                            # on this machine's cores
    python -m liqe_core sweep --profile paper --scheduler tcp://HOST:8786   # on a cluster

A cell is one run of ``02_multitask_training``. One whose run folder is finished is not run again; one that
fails keeps its executed notebook and its error while the others go on; one whose worker dies is taken up by
another worker, from the last saved state of its training. On a cluster, workers need this environment and
a file system that they share with whoever starts the sweep.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from distributed import Client, LocalCluster, as_completed

from liqe_core import notebooks
from liqe_core.files import write_csv, write_json
from liqe_core.profiles import Profile, profile
from liqe_core.prompts import VARIANTS
from liqe_core.sweep_cell import run_cell

NOTEBOOK = "02_multitask_training"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        settings: of its training.
        parameters: the notebook's, but for the folders.
    """

    settings: Profile
    parameters: Mapping[str, object]

    def run_folder(self, root: Path) -> Path:
        """Where its training is kept, shared with every notebook that reads run folders."""
        from liqe_core.prepare import run_folder  # imports torch, which workers do without

        return run_folder(self.settings, root)


def cells(
    profile_name: str,
    sessions: Sequence[int] = (1,),
    variants: Sequence[str] = VARIANTS,
    seeds: Sequence[int] = (1, 2, 3),
    changes: Mapping[str, object] | None = None,
) -> list[Cell]:
    """The grid, in the order session, seed, variant: variants of one seed are complete as early as can be.

    Args:
        seeds: as the notebook's parameter: session k of seed s trains from seed s + k - 1.
        changes: other settings of the profile, for all cells.

    Raises:
        ValueError: an unknown profile or setting, or one that cannot be.
    """
    grid = []
    for session, seed, variant in itertools.product(sessions, seeds, variants):
        changed = dict(changes or {})
        settings = profile(
            profile_name, **{**changed, "variant": variant, "session": session, "seed": seed + session - 1}
        )
        parameters = {"profile": profile_name, "sessions": [session], "seed": seed, "variant": variant}
        grid.append(Cell(settings, parameters | {"changes": changed}))
    return grid


def sweep(
    grid: Iterable[Cell],
    root: str | Path,
    client: Client,
    notebook: str | Path | None = None,
    tell: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Run every cell that is not finished yet.

    Args:
        root: run folders go below ``root/train``, everything else of a cell to ``root/sweep/<its name>``.
        client: of the cluster to run on.
        notebook: default: ``02_multitask_training``.
        tell: given a line about each cell that ends.

    Returns:
        A row a cell: `cell`, `session`, `seed` (of its training), `variant`, `state` ("done", "done before"
        or "failed"), `seconds`, `error`, `traceback`, `notebook`. Also in ``root/sweep/summary.csv``.
    """
    from liqe_core.runs import is_finished

    root = Path(root).resolve()
    notebook = Path(notebook or notebooks.FOLDER / f"{NOTEBOOK}.ipynb")
    table, futures, name = {}, {}, uuid.uuid4().hex
    for cell in grid:
        run = cell.run_folder(root)
        row = {"cell": run.name} | {k: getattr(cell.settings, k) for k in ("session", "seed", "variant")}
        table[run.name] = row | {"state": "done before", "seconds": 0.0, "error": "", "traceback": ""}
        if not is_finished(run):
            folder = root / "sweep" / run.name
            table[run.name] |= {"state": "waiting", "notebook": str(folder / notebook.name)}
            given = {**cell.parameters, "runs_root": str(root)}
            # The key names the cell on the dashboard, and is new: an earlier sweep's task is another one.
            key = f"{run.name}-{name}"
            future = client.submit(run_cell, str(notebook), str(folder), given, name, key=key)
            futures[future] = run.name
    tell(f"{len(table)} cells, {len(table) - len(futures)} of them done before")
    with _announced(root, client.dashboard_link if futures else ""):
        for number, future in enumerate(as_completed(list(futures)), 1):
            row = table[futures[future]]
            row |= _outcome(future)
            ended = "done" if row["state"] == "done" else f"failed, {row['error']}"
            tell(f"[{number}/{len(futures)}] {row['cell']}  {row['seconds']:.0f} s  {ended}")
            _write_summary(root, table)
    return _write_summary(root, table)


def _outcome(future) -> dict:
    """The state of a cell that ended, from its record or from what kept it from having one."""
    if future.status == "finished":
        record = future.result()
        state = "done" if record["ok"] else "failed"
        return {"state": state} | {k: record[k] for k in ("seconds", "error", "traceback")}
    reason = "cancelled" if future.status == "cancelled" else str(future.exception())
    return {"state": "failed", "error": f"{future.status}: {reason}", "traceback": reason}


@contextlib.contextmanager
def local_workers(workers: int | None = None, dashboard: str = ":8787") -> Iterator[Client]:
    """A cluster on this machine: a process a core, each of them with one thread.

    Args:
        workers: how many; default: as many as there are cores.
        dashboard: where to serve it; where that port is taken, another is.
    """
    with (
        LocalCluster(
            n_workers=workers or os.cpu_count(),
            threads_per_worker=1,
            # What takes memory are the notebooks' own processes, which Dask does not see.
            memory_limit=0,
            dashboard_address=dashboard,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def _announced(root: Path, dashboard: str) -> Iterator[None]:
    """While the block runs, ``sweep/running.json`` holds the dashboard's address; notebooks link to it."""
    path = root / "sweep" / "running.json"
    if not dashboard:
        yield
        return
    write_json(path, {"dashboard": dashboard, "process": os.getpid()})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _write_summary(root: Path, table: Mapping[str, Mapping]) -> pd.DataFrame:
    columns = ["cell", "session", "seed", "variant", "state", "seconds", "error", "traceback", "notebook"]
    summary = pd.DataFrame(table.values(), columns=columns).fillna({"notebook": ""})
    write_csv(root / "sweep" / "summary.csv", summary)
    return summary
