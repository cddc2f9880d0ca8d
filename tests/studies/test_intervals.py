"""Intervals, compared with the known distributions of the samples."""

import numpy as np
import pytest

from liqe_core.agreement import srcc
from liqe_core.studies.intervals import FEWEST, difference, gain_interval, mean_interval, srcc_interval


def test_the_interval_of_a_mean_matches_its_standard_error():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = mean_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.03)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_few_units_have_no_interval():
    assert np.isnan(mean_interval(np.arange(FEWEST - 1))).all()
    assert mean_interval(np.arange(FEWEST)) == mean_interval(np.arange(FEWEST)), "and the same every time"


@pytest.mark.parametrize(
    "ends, verdict",
    [
        ((0.1, 0.3), "better"),
        ((-0.3, -0.1), "worse"),
        ((-0.1, 0.3), "not measurable"),
        ((np.nan, np.nan), "not measurable"),
    ],
)
def test_the_verdict_of_an_interval(ends, verdict):
    row = difference(np.array([0.2, 0.4, -0.3, 0.0]), *ends)
    assert row["verdict"] == verdict and row["better"] == 2 and row["difference"] == pytest.approx(0.075)


def test_an_interval_covers_the_known_value():
    # of a bivariate normal with correlation r the rank correlation is 6/pi asin(r/2)
    rng, inside = np.random.default_rng(1), 0
    expected = 6 / np.pi * np.arcsin(0.6 / 2)
    for _ in range(20):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 150).T
        low, high = srcc_interval(x, y)
        assert low < srcc(x, y) < high
        inside += low < expected < high
    assert 16 <= inside <= 20


def test_images_of_one_photograph_are_drawn_together():
    """Twice the same images say no more than once, if their copies are drawn with them."""
    rng = np.random.default_rng(4)
    mos = rng.normal(size=60)
    quality = mos + rng.normal(size=60)
    pairs = [np.array([i, i + 60]) for i in range(60)]
    once, twice = srcc_interval(quality, mos), (np.tile(quality, 2), np.tile(mos, 2))
    assert srcc_interval(*twice, pairs) == pytest.approx(once)
    low, high = srcc_interval(*twice)
    assert high - low < 0.9 * (once[1] - once[0])


def test_a_gain_that_one_of_five_runs_made_is_not_taken_for_sure():
    rng = np.random.default_rng(3)
    mos = rng.normal(size=600)
    worse, better = mos + rng.normal(size=600), mos + 0.3 * rng.normal(size=600)
    low, high = gain_interval([better] * 5, [worse] * 5, mos)
    assert low > 0.2, "all five runs are ahead"
    low, high = gain_interval([better] + [worse] * 4, [worse] * 5, mos)
    assert low == 0 and high > 0.09, "a resample of the runs may miss the one that was"
