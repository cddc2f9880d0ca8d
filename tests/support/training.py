"""Helpers for tests of training: a small dataset, settings for short runs, crashes, equality of runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.data import mini
from liqe_core.data.labelled import LabelledImages
from liqe_core.files import file_sha256
from liqe_core.images import read_image
from liqe_core.training.profiles import Profile, profile

#: Three distortions at two levels of four photographs: 24 images, 12 to train on.
PHOTOGRAPHS = ("coffee", "camera", "china", "chelsea")
SELECTION = mini.Selection(PHOTOGRAPHS, kinds=(1, 10, 11), levels=(1, 5), size=(96, 72), views=("whole",))
#: Weights of the tasks.
EQUAL = {"quality": 1.0, "scene": 1.0, "distortion": 1.0}


def small_set(root, name: str = "mini") -> LabelledImages:
    """24 images of 96 x 72, built in a tenth of a second, read in another."""
    folder, labels = mini.build(root, SELECTION, progress=False)
    images = [np.asarray(read_image(folder / image)) for image in labels["image"]]
    return LabelledImages(name, labels, images)


def settings(**overrides) -> Profile:
    """Three epochs of three steps on a model of 1.6 million weights."""
    return profile("smoke", **{"device": "cpu", **overrides})


def without_times(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that must be equal from run to run."""
    return table.drop(columns=["seconds", "evaluation_seconds"], errors="ignore")


def train_small(root, folder, **overrides) -> None:
    """A run on the small dataset, as a job of `support.interrupting`."""
    from liqe_core.training.loop import fit

    fit(settings(**overrides), [small_set(root)], folder, progress=False)


class CrashError(BaseException):
    """What no except clause of ours catches."""


def crash(*_) -> None:
    """Stop all running jobs."""
    raise CrashError


def at_step(monkeypatch, number: int, action: Callable[[], object]) -> None:
    """Call `action` right before the training step of this number, counted from 0 in this process."""
    from liqe_core.training.loop import TrainStep

    take_step, numbers = TrainStep.__call__, itertools.count()

    def step(*arguments, **options):
        if next(numbers) == number:
            action()
        return take_step(*arguments, **options)

    monkeypatch.setattr(TrainStep, "__call__", step)


def assert_same_run(folder: Path, expected: Path) -> None:
    """Two finished runs have equal tables, but for times, and equal checkpoints to the byte."""
    for name in ("steps", "epochs", "measures", "results"):
        tables = [without_times(pd.read_csv(run / f"{name}.csv")) for run in (folder, expected)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    for name in ("quality", "scene", "distortion", "average"):
        checksums = {file_sha256(run / f"best_{name}.safetensors") for run in (folder, expected)}
        assert len(checksums) == 1, name
