"""Planted data sets: what is planted is what it says, and realignment takes it back."""

import numpy as np
import pandas as pd
import pytest

from liqe_core.studies.planted import WARPS, check_planted, plant
from liqe_core.studies.realign import realign

QUALITY = pd.Series(np.linspace(1, 5, 800), index=range(100, 900))


def test_scales_rise_over_what_they_cover_and_stay_in_range():
    for warp in WARPS.values():
        scores = warp.scale(np.linspace(*warp.covers, 50))
        assert (np.diff(scores) > 0).all()
        assert (scores >= warp.range[0] - 1e-12).all() and (scores <= warp.range[1] + 1e-12).all()


def test_dealt_evenly_without_noise_by_the_sets_scale():
    table = plant(QUALITY, noise=0)
    assert table.index.equals(QUALITY.index) and table["quality"].equals(QUALITY.rename("quality"))
    counts = table["dataset"].value_counts()
    # A quarter each, but half of the web's pictures lie outside of 2..4 and go to the first.
    assert counts["lenient"] == counts["strict"] == 200
    assert counts["plain"] + counts["web"] == 400 and 70 < counts["web"] < 130
    strict = table[table["dataset"] == "strict"].iloc[0]
    assert strict["mos"] == pytest.approx(1 + 8 * ((strict["quality"] - 1) / 4) ** 2)
    assert plant(QUALITY, seed=1).equals(plant(QUALITY, seed=1))
    assert not plant(QUALITY, seed=1).equals(plant(QUALITY, seed=2))


def test_realignment_recovers_what_was_planted():
    table = plant(QUALITY, noise=0).assign(prediction=QUALITY)
    scores = realign(table, ranges={name: warp.range for name, warp in WARPS.items()}).scores
    error = (scores["aligned"] - table["quality"]).abs().groupby(table["dataset"]).mean()
    before = (scores["naive"] - table["quality"]).abs().groupby(table["dataset"]).mean()
    assert (error < 0.12).all(), error
    assert (before[["lenient", "strict", "web"]] > 0.4).all()


def test_what_was_planted_is_recovered():
    check, recovered = check_planted()
    assert (recovered["error after"] < 0.3).all()
    assert check.curves["count"].sum() == 2000
    bent = recovered.loc[["lenient", "strict"]]
    assert (bent["error after"] < bent["error before"] / 2).all()
    assert set(check.curves.index) == set(recovered.index)
