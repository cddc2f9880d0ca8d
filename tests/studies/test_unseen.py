"""A model on whole data sets that it never saw."""

import numpy as np
import pandas as pd
import pytest

from liqe_core.data.labelled import LabelledPictures
from liqe_core.studies import unseen


@pytest.fixture
def get(photograph):
    """Three data sets of six crops of a photograph; one has constant scores, one is damaged."""

    def found(name):
        if name == "damaged":
            raise ValueError("the store is\ndamaged")
        mos = [1.0] * 6 if name == "constant" else [float(i) for i in range(6)]
        table = pd.DataFrame({"image": [f"{i}.png" for i in range(6)], "mos": mos})
        pictures = [np.ascontiguousarray(photograph[40 * i : 40 * i + 48, :64]) for i in range(6)]
        return LabelledPictures(name, table, pictures)

    return found


def test_each_set_gets_its_measures_or_its_reason(small_liqe, get, monkeypatch):
    monkeypatch.setattr(
        unseen, "what_is_missing", lambda name: "no pictures: get it" if name == "far" else ""
    )
    names = ["good", "known", "far", "damaged", "constant"]
    table, reasons = unseen.measure_unseen(small_liqe, names, get, trained_on=["known"])
    assert set(table["dataset"]) == {"good"} and set(table["metric"]) == {"SRCC", "PLCC", "KRCC", "RMSE"}
    assert (table["pictures"] == 6).all() and table["value"].notna().all()
    assert reasons["known"].startswith("trained on it") and reasons["far"] == "no pictures: get it"
    assert reasons["damaged"] == "no result: the store is damaged"
    assert reasons["constant"] == "not defined: constant scores"


def test_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_DATA", str(tmp_path))
    assert unseen.what_is_missing("tid2013") == "no pictures: liqe data fetch tid2013"
    assert unseen.what_is_missing("agiqa1k").startswith("no pictures: get it from")
    assert unseen.what_is_missing("uhdiqa").startswith("no manifest")
    table, reasons = unseen.measure_unseen(None, ["spaq"], None)
    assert table.empty and reasons["spaq"].startswith("no pictures")
