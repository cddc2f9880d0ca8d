"""A model on data sets that it never saw: the whole of each, and why one could not be tested."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pandas as pd

from liqe_core import agreement
from liqe_core.data.labelled import LabelledPictures
from liqe_core.data.manifests import ManifestError, load_manifest
from liqe_core.data.presence import status
from liqe_core.evaluation.measuring import predict
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality

NAMES = {"srcc": "SRCC", "plcc": "PLCC", "krcc": "KRCC", "rmse": "RMSE"}


def measure_unseen(
    model: LIQE | None,
    names: Sequence[str],
    get: Callable[[str], LabelledPictures],
    trained_on: Collection[str] = (),
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Test a model on all pictures of each data set.

    Args:
        model: None where there is none to test.
        names: of the data sets.
        get: from a name to the data set; raises ValueError where it is not there.
        trained_on: sets that the model learned from, which are not unseen.

    Returns:
        A row a set and metric (`dataset`, `metric`, `value`, `pictures`), and for every other set the
        reason: a few words, a colon, the whole.
    """
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
            quality = expected_quality(predict(model, of, range(len(of)))).numpy()
        except (ValueError, OSError) as error:  # damaged, or too small for a crop: the other sets still count
            reasons[name] = f"no result: {' '.join(str(error).split())}"
            continue
        mos = of.table["mos"].to_numpy(float)
        if why := agreement.reason(quality, mos):
            reasons[name] = f"not defined: {why}"
            continue
        for key, value in agreement.agreement(quality, mos).items():
            rows.append({"dataset": name, "metric": NAMES[key], "value": value, "pictures": len(of)})
    return pd.DataFrame(rows, columns=["dataset", "metric", "value", "pictures"]), reasons


def what_is_missing(name: str) -> str:
    """What has to be done before a data set can be used; "" when its pictures are there. Fetches nothing."""
    try:
        found = status(load_manifest(name))
    except ManifestError:
        return "no manifest: this project does not read the data set yet"
    if found.state == "absent":
        return f"no pictures: {found.next}"
    return ""
