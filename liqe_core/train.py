"""Multitask training: one loop, the settings of a profile, and a run folder that says what it was.

    run = fit(profile("mini"), sets, "runs/mini/seed-1")

The folder holds ``settings.json``, ``steps.csv`` and ``epochs.csv`` (losses, weights, learning rate,
validation), the checkpoints that were best in validation, and ``results.csv``, what they measure on the test
parts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from liqe_core.datasets import Batch, LabelledPictures, TrainingBatches
from liqe_core.files import write_csv, write_json
from liqe_core.losses import distortion_loss, quality_loss, scene_loss
from liqe_core.measure import measure, test
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.profiles import Profile
from liqe_core.prompts import PromptGrid
from liqe_core.runs import describe
from liqe_core.weighting import WEIGHTINGS

#: What each kept checkpoint was best at in validation: one measure, or the mean of all three.
CRITERIA = {
    "quality": ("srcc",),
    "scene": ("scene_accuracy",),
    "distortion": ("distortion_accuracy",),
    "average": ("srcc", "scene_accuracy", "distortion_accuracy"),
}


def fit(
    settings: Profile, sets: Sequence[LabelledPictures], folder: str | Path, progress: bool = True
) -> pd.DataFrame:
    """Train, validate, and test the checkpoints that did best in validation.

    Args:
        settings: see `Profile`.
        sets: the data sets that `settings.batch_sizes` names.
        folder: the run folder, created; files of an earlier run in it are replaced.
        progress: show a bar with the loss and the time left.

    Returns:
        The test results: a row a kept checkpoint and data set, as in ``results.csv``.

    Raises:
        ValueError: a data set is missing.
    """
    sets = _chosen(settings, sets)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", describe(settings, sets))

    torch.manual_seed(settings.seed)
    model = LIQE.from_clip(
        settings.architecture, settings.pretrained, grid=PromptGrid.variant(settings.variant)
    )
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    weighting = WEIGHTINGS[settings.weighting](model.grid.axes, settings.temperature)
    batches = TrainingBatches(
        sets,
        settings.batch_sizes,
        settings.session,
        model.grid,
        model.geometry,
        settings.crops,
        settings.seed,
    )
    best = dict.fromkeys(CRITERIA, -math.inf)
    step_rows, epoch_rows = [], []
    bar = tqdm(total=settings.epochs * settings.steps, unit="step", disable=not progress)
    for epoch in range(settings.epochs):
        started = time.perf_counter()
        weights = weighting.weights()
        model.train(settings.batch_norm == "learned")
        for step, batch in enumerate(_read_ahead(batches, epoch, settings.steps)):
            rate = learning_rate(settings, epoch, step)
            losses = train_step(model, optimizer, batch, weights, rate)
            weighting.record(losses)
            step_rows.append({"epoch": epoch, "step": step, "learning_rate": rate, **_named(losses, "loss")})
            bar.update()
            bar.set_postfix(epoch=epoch, loss=f"{sum(losses.values()):.3f}", refresh=False)
        weighting.end_epoch()
        row = {
            "epoch": epoch,
            "learning_rate": rate,
            **_named(dict(zip(model.grid.axes, weighting.epoch_means[-1], strict=True)), "loss"),
            **_named(weights, "weight"),
            "seconds": time.perf_counter() - started,
        }
        if (epoch + 1) % settings.validate_every == 0 or epoch + 1 == settings.epochs:
            validation = measure(model, sets, settings.session, "val")
            row |= {
                m: validation[m].mean()
                for m in ("srcc", "scene_accuracy", "distortion_accuracy")
                if m in validation
            }
            for criterion, measures in CRITERIA.items():
                if not set(measures) & set(row):
                    continue
                value = np.nanmean([row[m] for m in measures if m in row])
                if value > best[criterion]:
                    best[criterion] = value
                    model.save(folder / f"best_{criterion}.safetensors", recipe=settings.to_dict() | row)
        epoch_rows.append(row)
        write_csv(folder / "steps.csv", pd.DataFrame(step_rows))
        write_csv(folder / "epochs.csv", pd.DataFrame(epoch_rows))
    bar.close()
    return test(folder, sets, settings)


def train_step(
    model: LIQE,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    weights: Mapping[str, float],
    learning_rate: float,
) -> dict[str, float]:
    """One step: the weighted sum of the task losses, its gradient, the update.

    Returns:
        The losses by task, unweighted.
    """
    device = model.device
    joint = model(batch.crops.to(device))
    losses = task_losses(joint, batch, model.grid.axes)
    optimizer.zero_grad(set_to_none=True)
    sum(weights[task] * loss for task, loss in losses.items()).backward()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    return {task: loss.item() for task, loss in losses.items()}


def task_losses(joint: Tensor, batch: Batch, axes: Sequence[str]) -> dict[str, Tensor]:
    """The loss of each task whose axis the grid has, from the (B, Q, S, D) joint probability."""
    device = joint.device
    losses = {
        "quality": quality_loss(expected_quality(joint), batch.mos.to(device), batch.dataset.to(device))
    }
    if "scene" in axes:
        losses["scene"] = scene_loss(marginal(joint, "scene"), batch.scene.to(device))
    if "distortion" in axes:
        losses["distortion"] = distortion_loss(marginal(joint, "distortion"), batch.distortion.to(device))
    return losses


def learning_rate(settings: Profile, epoch: int, step: int) -> float:
    """The rate at a step, a function of where the run is and of nothing else.

    ``public``: CosineAnnealingLR(T_max=5) is stepped once an epoch, and once more where an epoch would start
    at rate 0; so position 5, 15, 25, ... of its wave is never trained at.
    """
    if settings.schedule == "public":
        position = 0
        for _ in range(epoch):
            position += 1
            if position % 10 == 5:
                position += 1
        return settings.learning_rate * (1 + math.cos(math.pi * position / 5)) / 2
    done, total = epoch * settings.steps + step, settings.epochs * settings.steps
    if done < settings.warmup_steps:
        return settings.learning_rate * (done + 1) / settings.warmup_steps
    part = (done - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    return settings.learning_rate * (1 + math.cos(math.pi * part)) / 2


def _chosen(settings: Profile, sets: Sequence[LabelledPictures]) -> list[LabelledPictures]:
    by_name = {s.name: s for s in sets}
    if missing := [name for name in settings.batch_sizes if name not in by_name]:
        raise ValueError(
            f"profile {settings.name} trains on {', '.join(settings.batch_sizes)}, but {', '.join(missing)} "
            "was not given; prepare it, or leave it out of batch_sizes"
        )
    return [by_name[name] for name in settings.batch_sizes]


def _read_ahead(batches: TrainingBatches, epoch: int, steps: int):
    """The batches of an epoch; each is cut while the model works on the one before."""
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(batches.batch, epoch, 0)
        for step in range(steps):
            batch = ahead.result()
            if step + 1 < steps:
                ahead = reader.submit(batches.batch, epoch, step + 1)
            yield batch


def _named(values: Mapping[str, float], kind: str) -> dict[str, float]:
    return {f"{task}_{kind}": value for task, value in values.items()}
