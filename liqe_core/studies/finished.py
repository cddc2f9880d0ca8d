"""Finished runs, read from their folders: what each was, what came out, and what its model says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from liqe_core.data.labelled import LabelledImages
from liqe_core.evaluation.measuring import predict
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.training.prepare import sets_for
from liqe_core.training.profiles import Profile
from liqe_core.training.runs import fingerprint, is_finished, read_description, read_results

EXCLUDED = ["run", "reason"]
#: What repeats a run rather than changes it.
REPEATS = ("session", "seed")


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a run folder says about its run.

    Attributes:
        folder: where it is. settings: of its training. data: as in ``settings.json``.
        results: as in ``results.csv``.
        steps: how many were taken. schedule: equal for runs with the same learning rate at every step and
            the same batches left out.
    """

    folder: Path
    settings: Profile
    data: dict
    results: pd.DataFrame
    steps: int
    schedule: str

    @property
    def repeat(self) -> tuple[int, int]:
        """(session, seed)."""
        return self.settings.session, self.settings.seed

    def epochs(self) -> pd.DataFrame:
        """``epochs.csv``: losses, weights and validation, a row an epoch."""
        return pd.read_csv(self.folder / "epochs.csv")

    def checkpoint(self, criterion: str = "quality") -> Path:
        """The file of the kept checkpoint that was best at a criterion; every variant has ``quality``."""
        return self.folder / f"best_{criterion}.safetensors"


class SelectedRuns(NamedTuple):
    """Runs that differ in one setting alone, and what was left out: columns `run`, `reason`."""

    runs: list[FinishedRun]
    excluded: pd.DataFrame


def read_runs(root: str | Path) -> SelectedRuns:
    """Every finished run below ``root/train``, in order of name.

    Returns:
        The runs, and the folders that cannot be read as one, each with its reason.
    """
    runs, excluded = [], []
    for folder in sorted(path for path in (Path(root) / "train").glob("*") if path.is_dir()):
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            excluded.append((folder.name, str(error)))
    return SelectedRuns(runs, pd.DataFrame(excluded, columns=EXCLUDED))


def read_run(folder: str | Path) -> FinishedRun:
    """One finished run from its folder.

    Raises:
        ValueError: it is not finished, or cannot be read; says so in a few words, without the folder.
    """
    folder = Path(folder)
    if not is_finished(folder):
        raise ValueError("not finished")
    try:
        settings, content = read_description(folder)
        steps = pd.read_csv(folder / "steps.csv")[["epoch", "step", "learning_rate", "skipped"]]
        results, schedule = read_results(folder), fingerprint(steps)
        return FinishedRun(folder, settings, dict(content["data"]), results, len(steps), schedule)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"cannot be read ({type(error).__name__}: {error})"
        raise ValueError(" ".join(reason.split())) from error


def repeated_runs(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """The largest group of runs that differ in session and seed alone; of equally large ones the one with
    more tasks, then with more steps. In order of session and seed."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        recipe = {name: value for name, value in run.settings.deciding().items() if name not in REPEATS}
        groups.setdefault(json.dumps(recipe, sort_keys=True), []).append(run)

    def size(group: list[FinishedRun]) -> tuple[int, int, int]:
        return len(group), group[0].settings.model.variant.count("+"), group[0].steps

    largest = max(reversed(groups.values()), key=size, default=[])
    return sorted(largest, key=lambda run: run.repeat)


def epoch_table(runs: Iterable[FinishedRun]) -> pd.DataFrame:
    """``epochs.csv`` of every run, with its session as ``run``."""
    return pd.concat([run.epochs().assign(run=run.repeat[0]) for run in runs], ignore_index=True)


def load_best(run: FinishedRun) -> LIQE:
    """The kept model of a run: best by the average of its measures, or by quality where there is no other.

    Raises:
        ValueError: its weights are gone.
    """
    kept = [run.checkpoint(criterion) for criterion in ("average", "quality")]
    if not (present := [path for path in kept if path.exists()]):
        raise ValueError(f"{run.folder}: its weights (best_*.safetensors) are gone")
    return LIQE.from_checkpoint(present[0])


class Answers(NamedTuple):
    """What a run's model says of its session's test parts.

    Attributes:
        model: the kept one. parts: for each dataset, which of its rows, and their (N, Q, S, D) joint.
    """

    model: LIQE
    parts: list[tuple[LabelledImages, np.ndarray, torch.Tensor]]

    def table(self) -> pd.DataFrame:
        """The label tables of these images, one below the other, with ``quality`` in 1..5."""
        tables = [
            dataset.table.iloc[rows].assign(quality=expected_quality(joint).numpy())
            for dataset, rows, joint in self.parts
        ]
        return pd.concat(tables, ignore_index=True)

    def confusion(self, axis: str) -> pd.DataFrame:
        """`confusion_counts` over all datasets, without the rows of labels that none has.

        Args:
            axis: ``scene`` or ``distortion``, which the model has to have learned.
        """
        column = {"scene": "scenes", "distortion": "distortion_group"}[axis]
        p = torch.cat([marginal(joint, axis) for _, _, joint in self.parts]).numpy()
        counts = confusion_counts(self.table()[column], p, self.model.grid.names(axis))
        return counts.loc[counts.sum(axis=1) > 0].rename_axis(index="label")


def predict_test_parts(run: FinishedRun) -> Answers:
    """Ask the kept model of a run about its session's test parts.

    Raises:
        ValueError: its weights are gone, or its settings are of another version.
    """
    model, sets = load_best(run), sets_for(run.settings, progress=False)
    parts = [(dataset, dataset.part(run.repeat[0], "test")) for dataset in sets]
    return Answers(model, [(dataset, rows, predict(model, dataset, rows)) for dataset, rows in parts])


def confusion_counts(labels: pd.Series, p: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """How often each label was taken for each word: (K, K) counts, labels as rows, guesses as columns.

    Args:
        labels: of each image a word, a tuple of words (each of which then counts), or nothing.
        p: (N, K) probabilities. names: the K words.
    """
    guess = pd.Series(np.asarray(names, dtype=object)[np.asarray(p).argmax(axis=1)], index=labels.index)
    labelled = labels.explode().dropna()
    counts = pd.crosstab(labelled, guess.loc[labelled.index].to_numpy())
    return counts.reindex(index=list(names), columns=list(names), fill_value=0)
