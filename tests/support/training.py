"""What the tests of training share: a small data set of real pictures, and settings that take seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from liqe_core.data import mini
from liqe_core.data.labelled import LabelledPictures
from liqe_core.images import read_picture
from liqe_core.training.profiles import Profile, profile

#: Three distortions at two levels of four photographs: 24 pictures, 12 to train on.
SELECTION = mini.Selection(
    photographs=("coffee", "camera", "china", "chelsea"),
    kinds=(1, 10, 11),
    levels=(1, 5),
    size=(96, 72),
    views=("whole",),
)


def small_set(root, name: str = "mini") -> LabelledPictures:
    """24 pictures of 96 x 72, built in a tenth of a second, read in another."""
    folder, labels = mini.build(root, SELECTION, progress=False)
    pictures = [np.asarray(read_picture(folder / image)) for image in labels["image"]]
    return LabelledPictures(name, labels, pictures)


def settings(**overrides) -> Profile:
    """Three epochs of three steps on a model of 1.6 million weights."""
    return profile("smoke", **{"device": "cpu", **overrides})


def without_times(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that must be equal from run to run."""
    return table.drop(columns=["seconds", "evaluation_seconds"], errors="ignore")


def train_small(root, folder, **overrides) -> None:
    """A run on the small set, as a job of `support.interrupting`."""
    from liqe_core.training.loop import fit

    fit(settings(**overrides), [small_set(root)], folder, progress=False)
