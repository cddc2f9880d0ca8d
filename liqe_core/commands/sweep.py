"""``liqe sweep``: run a grid of sessions x variants x seeds with papermill on Dask distributed.

On the cores of this machine, or on a cluster::

    liqe sweep --profile mini
    liqe sweep --profile paper --scheduler tcp://HOST:8786

A cell of the grid is one run of ``04_multitask_training``. Finished cells are skipped. If a cell fails, its
executed notebook and its error are saved and the other cells continue. If a worker dies, another worker
resumes its cell from the last saved training state. On a cluster, workers need this environment and a file
system shared with the process that starts the sweep.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import itertools
import logging
import os
import shutil
import sys
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from liqe_core.commands import notebooks
from liqe_core.commands.options import values
from liqe_core.files import runs_dir, write_csv, write_json

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

    from liqe_core.training.profiles import Profile

NOTEBOOK = "04_multitask_training"
#: Seconds to wait for a scheduler.
PATIENCE = 20


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        settings: training settings of the cell.
        parameters: parameters of the notebook without its folders.
    """

    settings: Profile
    parameters: Mapping[str, object]


def cells(
    profile_name: str,
    sessions: Sequence[int] = (1,),
    variants: Sequence[str] | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    changes: Mapping[str, object] | None = None,
) -> list[Cell]:
    """Build the grid in the order session, seed, variant, so that all variants of a seed finish early.

    Args:
        variants: prompt variants; default: the four of the paper's ablation.
        seeds: values of the notebook's parameter; session k of seed s trains with seed s + k - 1.
        changes: overridden settings of the profile, for all cells.

    Raises:
        ValueError: an unknown profile or setting, or an invalid value.
    """
    from liqe_core.prompts import VARIANTS
    from liqe_core.training.profiles import profile

    grid = []
    for session, seed, variant in itertools.product(sessions, seeds, variants or VARIANTS):
        changed = dict(changes or {})
        settings = profile(
            profile_name, **{**changed, "variant": variant, "session": session, "seed": seed + session - 1}
        )
        parameters = {"profile": profile_name, "sessions": [session], "seed": seed, "variant": variant}
        grid.append(Cell(settings, parameters | {"changes": changed}))
    return grid


def run_cell(notebook: Path, folder: Path, parameters: Mapping[str, object], run: Path) -> dict[str, object]:
    """Run the notebook of a cell; errors become part of the record, so that the other cells continue.

    Papermill starts the notebook in a separate process, which monitors its parent and exits with it. A killed
    worker therefore leaves no training behind, and the lock of the run folder is free for the next worker.

    Args:
        notebook: file of the notebook.
        folder: folder of the cell, for the executed notebook and its figures.
        parameters: parameters of the notebook.
        run: folder of the training run. A finished run is not repeated, since Dask repeats a task if the
            worker that holds its result dies.

    Returns:
        `state`, `seconds`, `error`, `traceback`, and `notebook`, the executed copy.
    """
    from liqe_core.training.runs import is_finished

    executed = notebooks.Executed(folder / notebook.name)
    try:
        if not is_finished(run):
            executed = notebooks.execute(notebook, executed.notebook, parameters)
    except Exception as failed:  # errors of papermill and a full disk are recorded as failed cells, too
        error = f"{type(failed).__name__}: {failed}"
        executed = dataclasses.replace(executed, error=error, traceback=traceback.format_exc())
    row = dataclasses.asdict(executed) | {"notebook": str(executed.notebook)}
    return row | {"state": "failed" if executed.error else "done"}


def sweep(
    grid: Iterable[Cell],
    root: str | Path,
    client: Client,
    notebook: str | Path | None = None,
) -> pd.DataFrame:
    """Run all unfinished cells, and print a line for each cell that ends.

    Args:
        root: output folder; runs are in ``root/train``, other files of a cell in ``root/sweep/<its name>``.
        client: client of the Dask cluster.
        notebook: default: ``04_multitask_training``.

    Returns:
        One row per cell: `cell`, `session`, `seed` (of its training), `variant`, `state` ("done", "done
        before" or "failed"), `seconds`, `error`, `traceback`, `notebook`. The table is also saved as
        ``root/sweep/summary.csv``.
    """
    from distributed import as_completed

    from liqe_core.training.runs import is_finished, run_folder

    root = Path(root).resolve()
    notebook = Path(notebook or notebooks.NOTEBOOKS / f"{NOTEBOOK}.ipynb")
    table, futures, name = {}, {}, uuid.uuid4().hex
    for cell in grid:
        run = run_folder(cell.settings, root)
        row = {"cell": run.name, "session": cell.settings.session, "seed": cell.settings.seed}
        row |= {"variant": cell.settings.model.variant, "state": "done before", "seconds": 0.0}
        table[run.name] = row | {"error": "", "traceback": "", "notebook": ""}
        if not is_finished(run):
            folder = root / "sweep" / run.name
            table[run.name] |= {"state": "waiting", "notebook": str(folder / notebook.name)}
            parameters = {**cell.parameters, "runs_root": str(root)}
            # The key shows the cell on the dashboard; it is unique, so that results of earlier sweeps on the
            # same scheduler are not reused.
            key = f"{run.name}-{name}"
            future = client.submit(run_cell, notebook, folder, parameters, run, key=key)
            futures[future] = table[run.name]
    print(f"{len(table)} cells, {len(table) - len(futures)} already finished")
    running = root / "sweep" / "running.json"
    write_json(running, {"dashboard": client.dashboard_link, "process": os.getpid()})  # notebooks link to it
    try:
        for number, future in enumerate(as_completed(list(futures)), 1):
            row = futures[future]
            if future.status == "finished":
                row |= future.result()
            else:
                reason = "cancelled" if future.cancelled() else str(future.exception())
                row |= {"state": "failed", "error": reason, "traceback": reason}
            ended = "done" if row["state"] == "done" else f"failed, {row['error']}"
            print(f"[{number}/{len(futures)}] {row['cell']}  {row['seconds']:.0f} s  {ended}")
            _write_summary(root, table)
    finally:
        running.unlink(missing_ok=True)
    return _write_summary(root, table)


def announcement(grid: Sequence[Cell], root: Path) -> str:
    """Describe the work, the disk space and the output folder of a grid.

    Raises:
        ValueError: an unfinished cell needs a dataset that is incomplete; the message says what to do for
            each dataset.
        OSError: the decoded images do not fit on the disk.
    """
    from liqe_core import towers
    from liqe_core.data.fetch import disk_of, readable_size
    from liqe_core.training.preflight import disk_space
    from liqe_core.training.prepare import decoded, missing_datasets
    from liqe_core.training.runs import is_finished, run_folder

    settings = grid[0].settings
    todo = [cell for cell in grid if not is_finished(run_folder(cell.settings, root))]
    if todo and (missing := missing_datasets(settings.data.batch_sizes, parts=True)):
        advice = "; ".join(f"{name}: {action}" for name, action in missing.items())
        raise ValueError(
            f"{len(missing)} of the {len(settings.data.batch_sizes)} datasets are not ready. {advice}"
        )
    steps = sum(cell.settings.steps.epochs * cell.settings.steps.steps for cell in todo)
    most = disk_space(towers.build(towers.architecture(settings.model.architecture)))
    room = shutil.disk_usage(disk_of(root)).free
    lines = [
        f"{len(grid)} runs of the profile {settings.name}, {len(grid) - len(todo)} already finished",
        f"remaining: {steps} steps of {sum(settings.data.batch_sizes.values())} images "
        f"x {settings.steps.crops} crops",
        f"runs: {root / 'train'}, at most {readable_size(most)} each, {readable_size(most * len(todo))} for "
        f"the remaining runs, {readable_size(room)} free",
        decoded(dict.fromkeys(settings.data.batch_sizes), settings, refuse=bool(todo)),
    ]
    return "\n".join(lines)


def _write_summary(root: Path, table: Mapping[str, Mapping]) -> pd.DataFrame:
    import pandas as pd

    summary = pd.DataFrame(table.values())
    write_csv(root / "sweep" / "summary.csv", summary)
    return summary


@contextlib.contextmanager
def dask_client(
    scheduler: str | None = None, workers: int | None = None, dashboard: str = ":8787"
) -> Iterator[Client]:
    """Connect to the workers of a scheduler, or start local workers for the block.

    Args:
        scheduler: address of the scheduler, ``tcp://host:8786``.
        workers: number of local workers if there is no scheduler; default: one per GPU or, without GPUs, one
            per core.
        dashboard: address of the dashboard of local workers; if the port is in use, another one is chosen.

    Raises:
        ValueError: there is no scheduler at the address, or Dask is not installed.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ValueError("Dask workers require the package distributed; run: pip install distributed")
    if not scheduler:
        with _local_workers(workers, dashboard) as client:
            yield client
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler at {scheduler} ({error}); start one with `dask scheduler`, or omit "
            "--scheduler to run on this machine"
        ) from None
    # The caller reports a lost connection to the scheduler; this hides Dask's traceback.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    with client:
        yield client


@contextlib.contextmanager
def _local_workers(workers: int | None, dashboard: str) -> Iterator[Client]:
    """Start a local cluster: one process per GPU or, without GPUs, per core, with one thread each."""
    import dask
    import torch
    from distributed import Client, LocalCluster, WorkerPlugin

    count = torch.cuda.device_count()
    gpus = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")[:count]

    class OneGpu(WorkerPlugin):
        """Restrict the processes that a worker starts to one GPU, also after a restart of the worker."""

        def setup(self, worker):
            if gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name) % len(gpus)]

    with (
        # Dask restarts a dead worker. On a busy machine the restart takes longer than the default timeout of
        # 15 s, after which Dask removes the worker; without any worker, a run would wait forever.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),
        LocalCluster(
            n_workers=workers or len(gpus) or os.cpu_count(),
            threads_per_worker=1,
            # The memory is used by the processes of the notebooks, which Dask does not measure.
            memory_limit=0,
            dashboard_address=dashboard,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(OneGpu())
        yield client


def run_sweep(options: argparse.Namespace) -> int:
    """Run the grid and print its results."""
    from liqe_core.training.profiles import profile

    out = Path(options.out) if options.out else runs_dir(options.profile)
    changes = values(options.set)
    grid = cells(options.profile, options.sessions, options.variants, options.seeds, changes)
    print(announcement(grid, out))
    with dask_client(options.scheduler, options.workers, options.dashboard) as client:
        print(f"dashboard: {client.dashboard_link}")
        summary = sweep(grid, out, client)
    failed = summary[summary["state"] == "failed"]
    for row in failed.itertuples():
        print(f"\n{row.cell} failed: {row.error}\n{row.traceback}\nExecuted notebook: {row.notebook}")
    print(f"\n{_ablation(out, profile(options.profile, **changes))}")
    print(f"\n{len(summary) - len(failed)} of {len(summary)} cells are done: {out / 'sweep' / 'summary.csv'}")
    if len(failed):
        print("Run the same command again to repeat the failed cells.", file=sys.stderr)
    return 1 if len(failed) else 0


def _ablation(out: Path, settings: Profile) -> str:
    """Format the ablation table of all finished runs as text."""
    import pandas as pd

    from liqe_core.studies.ablations import STUDIES, alike, compare, scores
    from liqe_core.studies.finished import read_runs

    study = STUDIES["variant"]
    runs, _ = alike(read_runs(out).runs, settings, study)
    table = compare(scores(runs, study), study).rename(columns={"level": "SRCC on the test parts"})
    with pd.option_context("display.width", 160, "display.max_colwidth", 60):
        return table.round(3).fillna("").to_string(index=False)
