"""The runs of an ablation: those that a sweep has finished, or else brief ones, trained now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from liqe_core.ablations import FinishedRun, Study, alike, comparable, read_runs
from liqe_core.datasets import LabelledPictures
from liqe_core.prepare import sets_for
from liqe_core.profiles import Profile
from liqe_core.side_by_side import fit_all


class Found(NamedTuple):
    """The runs of an ablation.

    Attributes:
        runs: they differ in the study's setting alone, and in session and seed.
        excluded: what else is in the folder: columns `run`, `reason`.
        settings: what the runs share.
        trained: whether they were trained now, briefly.
    """

    runs: list[FinishedRun]
    excluded: pd.DataFrame
    settings: Profile
    trained: bool

    def told(self) -> str:
        """Which of the two, for the reader."""
        length = f"{self.settings.epochs} epochs of {self.settings.steps} steps"
        if self.trained:
            return (
                f"No sweep has finished here, so each level was trained once, briefly ({length}): this shows "
                "how the table is made, and nothing about the method. `make sweep` trains in full."
            )
        repeats = sorted({run.repeat for run in self.runs})
        return f"{len(self.runs)} finished runs of {length}; (session, seed): {repeats}."


def find_or_train(
    study: Study,
    settings: Profile,
    brief: Profile,
    root: str | Path,
    repeat: tuple[int, int] = (1, 1),
    sets: Sequence[LabelledPictures] | None = None,
    progress: bool = True,
) -> Found:
    """What a sweep has finished, where two levels at least can be compared; else each level, trained briefly.

    Args:
        settings: of the runs to look for.
        brief: of those to train where there are none; see `ablations.brief`.
        root: run folders are in ``root/train``.
        repeat: session and seed of a brief run.
        sets: the profile's data sets, where the caller has them.
    """
    there, unread = read_runs(root)
    runs, excluded = alike(there, settings, study)
    if comparable(runs, study):
        return Found(runs, pd.concat([unread, excluded], ignore_index=True), settings, False)
    session, seed = repeat
    sets = sets_for(brief, progress) if sets is None else sets
    shared = brief.override(session=session, seed=seed)
    of_levels = [shared.override(**{study.setting: level}) for level in study.levels]
    fit_all(of_levels, sets, root, progress=progress)
    there, unread = read_runs(root)
    runs, excluded = alike(there, brief, study)
    return Found(runs, pd.concat([unread, excluded], ignore_index=True), brief, True)
