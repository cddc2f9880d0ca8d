"""Which epochs are kept."""

import math

import pytest

from liqe_core.training.watch import improved


def test_an_epoch_is_kept_under_what_it_is_best_at():
    best = {}
    every = ["quality", "scene", "distortion", "average"]
    assert improved(best, {"srcc": 0.5, "scene_accuracy": 0.4, "distortion_accuracy": 0.3}) == every
    assert best["average"] == pytest.approx(0.4)
    assert improved(best, {"srcc": 0.5, "scene_accuracy": 0.6, "distortion_accuracy": 0.0}) == ["scene"]
    worse = {"srcc": 0.1, "scene_accuracy": 0.1, "distortion_accuracy": 0.1}
    assert improved(dict(best), worse, keep="last") == every
    assert improved(dict(best), {"learning_rate": 1.0}, keep="last") == []  # not validated
    assert improved(best, {"learning_rate": 1.0}) == []  # not validated
    assert improved({}, {"srcc": math.nan}) == ["quality", "average"]  # the first epoch is always saved
    quality_alone = {}
    for srcc in (math.nan, -0.9):
        assert improved(quality_alone, {"srcc": srcc}) == ["quality", "average"]
