"""Several runs of training at the same time, each in a process of its own with its share of the cores.

The steps of a small model are too short to keep many cores busy: two runs side by side, a core each, end
sooner than one after the other on both.
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

#: Seconds between two looks at how far the runs are.
LOOK = 1.0

FolderRun = tuple[Profile, Path]


def fit_all(
    runs: Sequence[Profile],
    sets: Sequence[LabelledImages],
    root: str | Path,
    at_once: int = 0,
    progress: bool = True,
) -> list[pd.DataFrame]:
    """Train what is not finished of `runs`; see `loop.fit`.

    Args:
        sets: the datasets that the runs name.
        root: run folders are in ``root/train``.
        at_once: how many train at the same time; 0: see `how_many`.
        progress: show a bar of the epochs of all runs; where they go one by one, each run's own.

    Returns:
        The test results of each run.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a run failed, with its traceback; those beside it were
            stopped and their state was saved. Otherwise as `loop.fit`.
    """
    folders = [run_folder(run, root) for run in runs]
    waiting = [(run, folder) for run, folder in zip(runs, folders, strict=True) if not is_finished(folder)]
    at_once = min(at_once or min(map(how_many, runs), default=1), len(waiting))
    if at_once > 1:
        _train(waiting, sets, at_once, progress)
    # What was trained side by side is finished, and only read here.
    return [fit(run, sets, folder, progress) for run, folder in zip(runs, folders, strict=True)]


def how_many(run: Profile) -> int:
    """Runs that go side by side well: one a core for a model without pretrained weights, which is small, on
    a machine without a GPU; else one, which takes all the cores, memory and GPU that there are."""
    small = not run.model.pretrained and torch_device(run.machine.device).type == "cpu"
    return torch.get_num_threads() if small else 1


def _train(
    waiting: Sequence[FolderRun], sets: Sequence[LabelledImages], at_once: int, progress: bool
) -> None:
    threads = max(1, torch.get_num_threads() // at_once)
    # torch's spawn also ends the others where one fails, and all of them where this process dies.
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
                process.terminate()  # which `fit` answers by saving its state
            raise


def _train_share(
    number: int, waiting: Sequence[FolderRun], sets: Sequence[LabelledImages], threads: int, at_once: int
) -> None:
    """Train every `at_once`-th of the waiting runs from `number` on, one after the other."""
    torch.set_num_threads(threads)
    for run, folder in waiting[number::at_once]:
        fit(run, sets, folder, progress=False)


def _epochs(folder: Path) -> int:
    """How many epochs of a run have ended."""
    table = folder / "epochs.csv"
    return len(pd.read_csv(table)) if table.is_file() else 0
