"""Finished runs: read their settings and results from their folders, and predict with their models."""

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
#: Settings that make a run a repeat of another run.
REPEATS = ("session", "seed")


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """The content of a run folder.

    Attributes:
        folder: its path. settings: the profile. data: as in ``settings.json``.
        results: as in ``results.csv``.
        steps: the number of steps. schedule: equal for runs with the same learning rate at every step and
            the same skipped batches.
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
        """Read ``epochs.csv``: losses, weights and validation, a row for each epoch."""
        return pd.read_csv(self.folder / "epochs.csv")

    def checkpoint(self, criterion: str = "quality") -> Path:
        """Return the file of the best checkpoint by a criterion; every variant has ``quality``."""
        return self.folder / f"best_{criterion}.safetensors"


class SelectedRuns(NamedTuple):
    """Selected runs, and the excluded ones: columns `run`, `reason`."""

    runs: list[FinishedRun]
    excluded: pd.DataFrame


def read_runs(root: str | Path) -> SelectedRuns:
    """Read every finished run below ``root/train``, sorted by name.

    Returns:
        The runs, and the folders that could not be read, each with the reason.
    """
    runs, excluded = [], []
    for folder in sorted(path for path in (Path(root) / "train").glob("*") if path.is_dir()):
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            excluded.append((folder.name, str(error)))
    return SelectedRuns(runs, pd.DataFrame(excluded, columns=EXCLUDED))


def read_run(folder: str | Path) -> FinishedRun:
    """Read a finished run from its folder.

    Raises:
        ValueError: the run is not finished or cannot be read. The message is short and omits the folder.
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
    """Select the largest group of runs that differ only in session and seed, sorted by these.

    If groups are equally large, the one with more tasks is chosen, then the one with more steps.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        recipe = {name: value for name, value in run.settings.deciding().items() if name not in REPEATS}
        groups.setdefault(json.dumps(recipe, sort_keys=True), []).append(run)

    def size(group: list[FinishedRun]) -> tuple[int, int, int]:
        return len(group), group[0].settings.model.variant.count("+"), group[0].steps

    largest = max(reversed(groups.values()), key=size, default=[])
    return sorted(largest, key=lambda run: run.repeat)


def epoch_table(runs: Iterable[FinishedRun]) -> pd.DataFrame:
    """Concatenate ``epochs.csv`` of all runs, with the session as ``run``."""
    return pd.concat([run.epochs().assign(run=run.repeat[0]) for run in runs], ignore_index=True)


def load_best(run: FinishedRun) -> LIQE:
    """Load the best model of a run: by the average of its measures, or by quality if that is the only one.

    Raises:
        ValueError: the weights are missing.
    """
    kept = [run.checkpoint(criterion) for criterion in ("average", "quality")]
    if not (present := [path for path in kept if path.exists()]):
        raise ValueError(f"{run.folder}: the weights (best_*.safetensors) are missing; train the run again")
    return LIQE.from_checkpoint(present[0])


class Answers(NamedTuple):
    """Predictions of a run's model on the test parts of its session.

    Attributes:
        model: the best model. parts: for each dataset, the predicted rows and their (N, Q, S, D) joint.
    """

    model: LIQE
    parts: list[tuple[LabelledImages, np.ndarray, torch.Tensor]]

    def table(self) -> pd.DataFrame:
        """Concatenate the labels of these images, with the predicted ``quality`` in 1..5."""
        tables = [
            dataset.table.iloc[rows].assign(quality=expected_quality(joint).numpy())
            for dataset, rows, joint in self.parts
        ]
        return pd.concat(tables, ignore_index=True)

    def confusion(self, axis: str) -> pd.DataFrame:
        """Compute `confusion_counts` over all datasets, without the labels that no image has.

        Args:
            axis: ``scene`` or ``distortion``; the model must have learned it.
        """
        column = {"scene": "scenes", "distortion": "distortion_group"}[axis]
        p = torch.cat([marginal(joint, axis) for _, _, joint in self.parts]).numpy()
        counts = confusion_counts(self.table()[column], p, self.model.grid.names(axis))
        return counts.loc[counts.sum(axis=1) > 0].rename_axis(index="label")


def predict_test_parts(run: FinishedRun) -> Answers:
    """Predict the test parts of a run's session with its best model.

    Raises:
        ValueError: the weights are missing, or the settings are of another version.
    """
    model, sets = load_best(run), sets_for(run.settings, progress=False)
    parts = [(dataset, dataset.part(run.repeat[0], "test")) for dataset in sets]
    return Answers(model, [(dataset, rows, predict(model, dataset, rows)) for dataset, rows in parts])


def confusion_counts(labels: pd.Series, p: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Count how often each label was predicted as each word: (K, K), labels as rows, predictions as columns.

    Args:
        labels: for each image a word, a tuple of words (each one counts), or a missing value.
        p: (N, K) probabilities. names: the K words.
    """
    guess = pd.Series(np.asarray(names, dtype=object)[np.asarray(p).argmax(axis=1)], index=labels.index)
    labelled = labels.explode().dropna()
    counts = pd.crosstab(labelled, guess.loc[labelled.index].to_numpy())
    return counts.reindex(index=list(names), columns=list(names), fill_value=0)
