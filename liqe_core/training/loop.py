"""Multitask training: the loop over steps and epochs, and the run folder.

    results = fit(profile("mini"), sets, "runs/mini/seed-1")

The run folder contains ``settings.json``, ``steps.csv`` and ``epochs.csv`` (losses, weights, learning rate,
validation), ``measures.csv`` (each measure on each dataset), the checkpoints that were best in validation,
and ``results.csv`` (their results on the test parts). If a stopped run is started again, it resumes from its
last saved state and ends with the same numbers. The results of a finished run are only read.

On several GPUs or machines: ``torchrun --nproc-per-node 8 -m liqe_core train --profile paper --out FOLDER``.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from liqe_core.checkpoints import CheckpointError
from liqe_core.data.labelled import LabelledImages
from liqe_core.evaluation.distributed import ALONE, Ranks, together, wrapped
from liqe_core.evaluation.measuring import measure, measure_kept
from liqe_core.files import write_csv
from liqe_core.intake.progress import tqdm
from liqe_core.intake.stopping import Stop, StopRequested, stoppable
from liqe_core.training import preflight, resume, runs
from liqe_core.training.batches import TrainingBatches, batches_ahead
from liqe_core.training.embeddings import kept_windows
from liqe_core.training.precision import Precision
from liqe_core.training.profiles import Profile
from liqe_core.training.step import (
    BadBatchError,
    TrainStep,
    build_model,
    build_optimizer,
    distortion_loss_of,
    learning_rate,
    ranking_of,
)
from liqe_core.training.watch import TrainingError, Watch, improved
from liqe_core.weighting import DynamicWeightAverage


def fit(
    settings: Profile,
    sets: Sequence[LabelledImages],
    folder: str | Path,
    progress: bool = True,
    restart: bool = False,
) -> pd.DataFrame:
    """Train and validate a model, and test the checkpoints that were best in validation.

    Args:
        settings: see `Profile`.
        sets: the datasets of `settings.data.batch_sizes`.
        folder: the run folder. An unfinished run with the same settings is resumed.
        progress: show a bar with the loss, the learning rate and the remaining time.
        restart: remove the files of an earlier run from the folder.

    Returns:
        The test results, one row per checkpoint and dataset, as in ``results.csv``.

    Raises:
        ValueError: if a dataset is missing or has an empty part.
        BusyError: if another process uses the folder.
        RunFolderError: if the folder belongs to a run with other settings or data.
        StateError: if all saved states or a checkpoint of the run are damaged.
        MemoryError, OSError: if there is too little memory or disk space. Saved states stay intact.
        TrainingError: if training diverges, or too many batches have NaN.
        StopRequested: on SIGTERM or SIGINT, after the state is saved.
    """
    ranks = together(settings.machine.device)
    sets = preflight.chosen(settings, sets, ranks)
    with runs.claimed(folder, runs.describe(settings, sets, ranks), ranks, restart) as folder:
        if not runs.is_finished(folder):
            with resume.space_explained(folder):
                run = Run(settings, sets, folder, ranks, progress)
                run.train()
                try:
                    measure_kept(folder, run.sets, settings.session, settings.seed, ranks)
                except CheckpointError as error:
                    raise resume.StateError(f"{error}; or {resume.ANEW}") from None
        ranks.wait()
        if ranks.leads:
            for state in resume.saved_states(folder):
                state.unlink()
        return runs.read_results(folder)


class Run:
    """The state of a training run.

    Attributes:
        model, optimizer, weighting, precision: the parts of the training step.
        sets: the datasets, with images or cached features.
        length: number of epochs and steps per epoch; (1, 0) if the model is only evaluated.
        epoch, step: the next step.
        best: the best value so far for each key of `watch.CRITERIA`.
        steps, epochs, measures: the rows of the three tables.
    """

    def __init__(
        self,
        settings: Profile,
        sets: Sequence[LabelledImages],
        folder: Path,
        ranks: Ranks = ALONE,
        progress: bool = False,
    ):
        self.settings, self.folder, self.ranks, self.progress = settings, Path(folder), ranks, progress
        self.model = model = build_model(settings, ranks.device)
        machine, steps = settings.machine, settings.steps
        preflight.check(settings, model, self.folder, ranks)
        if settings.model.keep_windows:
            sets = [kept_windows(data, model, None, progress, machine.precision) for data in sets]
        self.sets = sets
        self.length = (1, 0) if settings.model.freeze == "all" else (steps.epochs, steps.steps)
        self.optimizer = build_optimizer(settings, model)
        self.precision = Precision(machine.precision, ranks.device, machine.tf32, model.clip)
        losses = (ranking_of(settings), distortion_loss_of(settings))
        parallel = wrapped(model, ranks)
        self.take_step = TrainStep(model, self.optimizer, self.precision, ranks, parallel, *losses)
        tasks = model.grid.axes
        if settings.losses.control == "quality alone":
            tasks = tasks[:1]
        temperature = settings.losses.temperature if settings.losses.weighting == "dwa" else math.inf
        self.weighting = DynamicWeightAverage(tasks, temperature)
        self.watch = Watch(settings, model)
        self.batches = TrainingBatches(settings, sets)
        self.epoch, self.step, self.seconds, self.saved_at = 0, 0, 0.0, time.monotonic()
        self.best: dict[str, float] = {}
        self.steps: list[dict] = []
        self.epochs: list[dict] = []
        self.measures: list[dict] = []

    def train(self) -> None:
        """Train from the last saved state, or from the beginning, to the last epoch."""
        self.restore()
        total, shown = math.prod(self.length), self.progress and self.ranks.leads
        bar = tqdm(total=total, initial=len(self.steps), unit="step", disable=not shown)
        with stoppable(between_steps=True) as stop, self.precision.of_products(), bar:
            try:
                while self.epoch < self.length[0]:
                    self.train_epoch(bar, stop)
                    self.end_epoch()
                    self.save_when_due(stop)
            except TrainingError:
                self.write_tables()  # shows the steps up to the error
                raise

    def weights(self) -> dict[str, float]:
        """Return the weight of each task's loss in the current epoch."""
        losses = self.settings.losses
        factors = {"quality": losses.quality_weight, "scene": losses.scene_weight}
        return {task: weight * factors.get(task, 1) for task, weight in self.weighting.weights().items()}

    def train_epoch(self, bar: tqdm, stop: Stop) -> None:
        """Take the remaining steps of the current epoch."""
        weights = self.weights()
        drops = self.settings.losses.lone_images == "drop step"
        self.model.train(self.settings.model.batch_norm == "learned")
        started = time.perf_counter() - self.seconds
        for batch in batches_ahead(self.batches, self.epoch, self.step, self.length[1], self.ranks):
            rate = learning_rate(self.settings, self.epoch, self.step)
            row = {"epoch": self.epoch, "step": self.step, "learning_rate": rate}
            dropped = drops and batch.has_lone_image
            try:
                if dropped:
                    # Which steps are dropped depends only on the sizes of the split. The public script counts
                    # them as zeros in its epoch means. The loss weights use only ratios of epoch means, which
                    # are equal here, because every epoch drops the same number of steps.
                    losses, norm = dict.fromkeys(weights, math.nan), math.nan
                else:
                    losses, norm = self.take_step(batch, weights, rate)
                    self.weighting.record(losses)
                row |= _named(losses, "loss") | {"gradient_norm": norm, "skipped": 0}
            except BadBatchError as bad:
                self.watch.skip(self.epoch, self.step, bad)
                row |= _named(bad.losses, "loss") | {"gradient_norm": math.nan, "skipped": 1}
            if drops:
                row["dropped"] = int(dropped)
            self.steps.append(row)
            self.watch.check(len(self.steps))
            self.step += 1
            self.seconds = time.perf_counter() - started
            bar.update()
            loss = sum(value for name, value in row.items() if name.endswith("_loss"))
            shown = {"epoch": self.epoch, "loss": f"{loss:.3f}", "rate": f"{rate:.1e}"}
            bar.set_postfix(shown, refresh=False)
            self.save_when_due(stop)

    def save_when_due(self, stop: Stop) -> None:
        """Save the state between two steps if it is due, at the end of training, and before stopping.

        Raises:
            StopRequested: if this process or another rank has received a signal.
        """
        stopping = self.ranks.any(bool(stop.signal))
        due = time.monotonic() - self.saved_at >= self.settings.machine.save_seconds
        if stopping or due or self.epoch == self.length[0]:
            self.save()
            self.saved_at = time.monotonic()
        if stopping:
            message = f"stopped after {self.taken} steps; run the same command to resume"
            raise StopRequested(stop.signal or signal.SIGTERM, message)

    @property
    def taken(self) -> int:
        """Number of steps taken so far."""
        return self.epoch * self.length[1] + self.step

    def end_epoch(self) -> None:
        """End the epoch: record its losses, validate, and save the checkpoints that improve."""
        started = time.perf_counter()
        weights = self.weights()
        self.weighting.end_epoch()
        number, last = self.epoch + 1, self.epoch + 1 == self.length[0]
        row = {
            "epoch": self.epoch,
            "learning_rate": learning_rate(self.settings, self.epoch, max(0, self.length[1] - 1)),
            **_named(self.weighting.last_means(), "loss"),
            **_named(weights, "weight"),
            "skipped": sum(step["skipped"] for step in self.steps if step["epoch"] == self.epoch),
            "seconds": self.seconds,
        }
        if number % self.settings.testing.validate_every == 0 or last:
            row |= self.measured("val")
        if self.settings.testing.test_every and number % self.settings.testing.test_every == 0:
            row |= {f"test_{name}": value for name, value in self.measured("test").items()}
        row["evaluation_seconds"] = time.perf_counter() - started
        for criterion in improved(self.best, row, self.settings.testing.keep):
            if self.ranks.leads:
                self.model.save(self.folder / f"best_{criterion}.safetensors", recipe=self.recipe(row))
        self.epochs.append(row)
        self.epoch, self.step, self.seconds = number, 0, 0.0
        self.write_tables()

    def recipe(self, row: Mapping[str, float]) -> dict:
        """Return the recipe for the header of a checkpoint.

        It has the settings that determine the weights, and their results. Durations and other settings are
        excluded, so that equal runs write equal files.
        """
        reached = {name: value for name, value in row.items() if not name.endswith("seconds")}
        return self.settings.deciding() | reached

    def measured(self, part: str) -> dict[str, float]:
        """Evaluate the current model on a part, and return the means over the datasets."""
        session, autocast = self.settings.session, self.precision.autocast
        table = measure(self.model, self.sets, session, part, self.ranks, autocast)
        self.measures += [{"epoch": self.epoch, "part": part, **r} for r in table.to_dict("records")]
        names = ("srcc", "scene_accuracy", "distortion_accuracy")
        return {name: float(table[name].mean()) for name in names if name in table}

    def parts(self) -> dict[str, Any]:
        """Return the objects with a state dict, by their names in a saved state."""
        parts = {"weights": self.model.clip, "optimizer": self.optimizer, "weighting": self.weighting}
        return parts | {"scaler": self.precision.scaler}

    def save(self) -> None:
        """Save the state of the run for `restore`."""
        if not self.ranks.leads:
            return
        self.write_tables()
        state = {name: part.state_dict() for name, part in self.parts().items()}
        state |= {name: getattr(self, name) for name in STATE} | {"skipped": self.watch.skipped}
        state["random"] = torch.get_rng_state()
        state["random_cuda"] = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        resume.save_state(self.folder, self.taken, state)

    def restore(self) -> None:
        """Load the last valid state if there is one."""
        state = resume.load_state(self.folder)
        self.ranks.agreed(state and (state["epoch"], state["step"]), "where the run stopped")
        if state is None:
            return
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random_cuda"])
        self.watch.skipped = state["skipped"]
        for name in STATE:
            setattr(self, name, state[name])

    def write_tables(self) -> None:
        """Write the tables so far as CSV files."""
        if not self.ranks.leads:
            return
        tables = {"steps": self.steps, "epochs": self.epochs, "measures": self.measures}
        for name, rows in (tables | {"skipped": self.watch.skipped}).items():
            if rows or name == "steps":  # steps.csv is also written, empty, if nothing trains
                columns = None if rows else NO_STEPS
                write_csv(self.folder / f"{name}.csv", pd.DataFrame(rows, columns=columns))


#: The columns of an empty ``steps.csv``.
NO_STEPS = ["epoch", "step", "learning_rate", "gradient_norm", "skipped"]
#: The attributes of a `Run` that a state stores directly.
STATE = ("epoch", "step", "seconds", "best", "steps", "epochs", "measures")


def _named(values: Mapping[str, float], kind: str) -> dict[str, float]:
    return {f"{task}_{kind}": value for task, value in values.items()}
