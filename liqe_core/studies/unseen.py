"""A model on data sets that it never saw: the whole of each, and why one could not be tested.

A picture that is smaller than a crop cannot be scored (the public loaders stop there). It is left out,
counted and told, and the rest of its set is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd

from liqe_core import agreement
from liqe_core.data.labelled import LabelledPictures
from liqe_core.data.manifests import ManifestError, load_manifest
from liqe_core.data.verification import status
from liqe_core.evaluation.measuring import predict
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality

#: The sets whose public loaders draw test windows at random (`crops.random_crops`); all others' are even.
RANDOM_WINDOWS = ("spaq", "tid2013", "pipal")
NAMES = {"srcc": "SRCC", "plcc": "PLCC", "krcc": "KRCC", "rmse": "RMSE"}


def measure_unseen(
    model: LIQE | None,
    names: Sequence[str],
    get: Callable[[str], LabelledPictures],
    trained_on: Collection[str] = (),
    windows: str = "even",
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Test a model on all pictures of each data set.

    Args:
        model: None where there is none to test.
        names: of the data sets.
        get: from a name to the data set; raises ValueError where it is not there.
        trained_on: sets that the model learned from, which are not unseen.
        windows: ``even``, or ``public`` for random ones in `RANDOM_WINDOWS`; see `Profile.unseen_windows`.
        seed: of the random ones. They are a draw as the public loaders', not theirs: theirs depends on how
            many processes read.

    Returns:
        A row a set and metric (`dataset`, `metric`, `value`, `pictures` that were measured, `left_out` for
        being smaller than a crop, `told`, which these are, or ""), and for every other set the reason: a few
        words, a colon, the whole.

    Raises:
        ValueError: another `windows`.
    """
    if windows not in ("even", "public"):
        raise ValueError(f"windows is {windows!r}: choose even or public")
    rows, reasons = [], {}
    for name in names:
        if name in trained_on:
            reasons[name] = "trained on it: the set is not unseen for this model"
            continue
        if missing := what_is_missing(name):
            reasons[name] = missing
            continue
        if model is None:
            reasons[name] = "no model: none was given, and no run is finished"
            continue
        try:
            of = get(name)
            drawn = seed if windows == "public" and name in RANDOM_WINDOWS else None
            scored = np.array(
                [min(of.pictures[i].shape[:2]) >= model.geometry.window for i in range(len(of))]
            )
            quality = expected_quality(predict(model, of, np.flatnonzero(scored), seed=drawn)).numpy()
        except (ValueError, OSError) as error:  # damaged: the other sets still count
            reasons[name] = f"no result: {' '.join(str(error).split())}"
            continue
        told = _too_small(of, scored, model.geometry.window)
        if not scored.any():
            reasons[name] = f"no result: {told}"
            continue
        mos = of.table["mos"].to_numpy(float)[scored]
        if why := agreement.reason(quality, mos):
            reasons[name] = f"not defined: {why}"
            continue
        for key, value in agreement.agreement(quality, mos).items():
            row = {"dataset": name, "metric": NAMES[key], "value": value, "pictures": int(scored.sum())}
            rows.append(row | {"left_out": int((~scored).sum()), "told": told})
    return pd.DataFrame(rows, columns=["dataset", "metric", "value", "pictures", "left_out", "told"]), reasons


def _too_small(of: LabelledPictures, scored: np.ndarray, window: int) -> str:
    """Which pictures are smaller than a crop: how many, and the first few names; "" where none is."""
    names = [f"{of.names[i]} ({_size(of, i)})" for i in np.flatnonzero(~scored).tolist()]
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} of {len(of)} are smaller than a crop of {window}: {', '.join(names[:5])}{more}"


def _size(of: LabelledPictures, row: int) -> str:
    height, width = of.pictures[row].shape[:2]
    return f"{width} x {height}"


def what_is_missing(name: str) -> str:
    """What has to be done before a data set can be used; "" when its pictures are there. Fetches nothing."""
    try:
        found = status(load_manifest(name))
    except ManifestError:
        return "no manifest: this project does not read the data set yet"
    if found.state == "absent":
        return f"no pictures: {found.next}"
    return ""
