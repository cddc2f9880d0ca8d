import math

import pytest

from liqe_core.weighting import DynamicWeightAverage


def run_epoch(weighting, *steps):
    for quality, scene in steps:
        weighting.record({"quality": quality, "scene": scene})
    weighting.end_epoch()


def test_weights_are_one_for_two_epochs_then_follow_the_pace():
    weighting = DynamicWeightAverage(["quality", "scene"])
    assert weighting.weights() == {"quality": 1.0, "scene": 1.0}
    run_epoch(weighting, (0.9, 0.5), (0.7, 0.3))  # means 0.8, 0.4
    assert weighting.weights() == {"quality": 1.0, "scene": 1.0}
    run_epoch(weighting, (0.4, 0.4))  # paces 0.5, 1.0
    a, b = math.exp(0.5 / 2), math.exp(1.0 / 2)
    weights = weighting.weights()
    assert weights["quality"] == pytest.approx(2 * a / (a + b))
    assert weights["scene"] == pytest.approx(2 * b / (a + b))
    assert sum(weights.values()) == pytest.approx(2)
    weighting.record({"quality": 9.0, "scene": 0.1})
    assert weighting.weights() == weights, "until the epoch ends"


def test_temperature_levels_the_weights():
    tasks = ["quality", "scene"]
    sharp, flat, equal = (DynamicWeightAverage(tasks, temperature=t) for t in (0.5, 50, math.inf))
    for weighting in (sharp, flat, equal):
        run_epoch(weighting, (1.0, 1.0))
        run_epoch(weighting, (0.2, 1.0))
    assert sharp.weights()["scene"] > flat.weights()["scene"] > 1
    assert equal.weights() == {"quality": 1.0, "scene": 1.0}


def test_state_is_resumed_in_the_middle_of_an_epoch():
    first, resumed = (DynamicWeightAverage(["quality", "scene"]) for _ in range(2))
    run_epoch(first, (1.0, 2.0))
    first.record({"quality": 0.5, "scene": 1.0})
    resumed.load_state_dict(first.state_dict())
    for weighting in (first, resumed):
        run_epoch(weighting, (0.7, 1.2))
    assert first.weights() == resumed.weights() != {"quality": 1.0, "scene": 1.0}


def test_a_zero_loss_or_an_empty_epoch_gives_no_nan():
    weighting = DynamicWeightAverage(["quality", "scene"])
    run_epoch(weighting, (0.0, 1.0))
    run_epoch(weighting, (0.0, 0.5))
    run_epoch(weighting)
    assert all(math.isfinite(w) for w in weighting.weights().values())


def test_bad_settings():
    with pytest.raises(ValueError, match="tasks"):
        DynamicWeightAverage([])
    with pytest.raises(ValueError, match="temperature"):
        DynamicWeightAverage(["quality"], temperature=0)
