"""Several training runs at the same time, each in its own process with a share of the cores.

The steps of a small model are too short to use many cores. Two parallel runs with one core each are faster
than two consecutive runs with both cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from liqe_core.data.labelled import LabelledImages
from liqe_core.evaluation.distributed import torch_device
from liqe_core.intake.progress import tqdm
from liqe_core.training.loop import fit
from liqe_core.training.profiles import Profile
from liqe_core.training.runs import is_finished, run_folder

#: Seconds between two updates of the progress.
LOOK = 1.0

FolderRun = tuple[Profile, Path]


def fit_all(
    runs: Sequence[Profile],
    sets: Sequence[LabelledImages],
    root: str | Path,
    at_once: int = 0,
    progress: bool = True,
) -> list[pd.DataFrame]:
    """Train all runs that are not finished; see `loop.fit`.

    Args:
        sets: the datasets of all runs.
        root: the folder with the run folders, which are in ``root/train``.
        at_once: number of parallel runs; 0: see `how_many`.
        progress: show a bar with the epochs of all runs; without parallel runs, one bar for each run.

    Returns:
        The test results of each run.

    Raises:
        torch.multiprocessing.ProcessRaisedException: if a parallel run fails, with its traceback. The other
            runs are stopped after their state is saved. Without parallel runs, as in `loop.fit`.
    """
    folders = [run_folder(run, root) for run in runs]
    waiting = [(run, folder) for run, folder in zip(runs, folders, strict=True) if not is_finished(folder)]
    at_once = min(at_once or min(map(how_many, runs), default=1), len(waiting))
    if at_once > 1:
        _train(waiting, sets, at_once, progress)
    # Runs that were trained in parallel are finished, so their results are only read.
    return [fit(run, sets, folder, progress) for run, folder in zip(runs, folders, strict=True)]


def how_many(run: Profile) -> int:
    """Return the suitable number of parallel runs.

    A model without pretrained weights is small, so one run per core is suitable on a CPU. Otherwise the
    number is 1, because a run uses all cores, the memory and the GPU.
    """
    small = not run.model.pretrained and torch_device(run.machine.device).type == "cpu"
    return torch.get_num_threads() if small else 1


def _train(
    waiting: Sequence[FolderRun], sets: Sequence[LabelledImages], at_once: int, progress: bool
) -> None:
    threads = max(1, torch.get_num_threads() // at_once)
    # torch's spawn also ends the other processes if one fails, and all of them if this process dies.
    training = torch.multiprocessing.spawn(
        _train_share, (waiting, sets, threads, at_once), at_once, join=False
    )
    total = sum(run.steps.epochs for run, _ in waiting)
    with tqdm(total=total, unit="epoch", desc=f"{at_once} side by side", disable=not progress) as bar:
        ended = False
        try:
            while not ended:
                ended = training.join(LOOK)
                bar.update(sum(_epochs(folder) for _, folder in waiting) - bar.n)
        except KeyboardInterrupt:
            for process in training.processes:
                process.terminate()  # `fit` saves its state on SIGTERM
            raise


def _train_share(
    number: int, waiting: Sequence[FolderRun], sets: Sequence[LabelledImages], threads: int, at_once: int
) -> None:
    """Train every `at_once`-th of the waiting runs, starting from `number`, one after the other."""
    torch.set_num_threads(threads)
    for run, folder in waiting[number::at_once]:
        fit(run, sets, folder, progress=False)


def _epochs(folder: Path) -> int:
    """Return the number of complete epochs of a run."""
    table = folder / "epochs.csv"
    return len(pd.read_csv(table)) if table.is_file() else 0
