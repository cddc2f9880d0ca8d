import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from liqe_core import agreement


def test_rank_correlations_by_hand():
    prediction, mos = [1.0, 2.0, 3.0, 4.0], [10.0, 30.0, 20.0, 40.0]
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15); five of six pairs agree
    assert agreement.srcc(prediction, mos) == pytest.approx(0.8)
    assert agreement.krcc(prediction, mos) == pytest.approx((5 - 1) / 6)


def test_plcc_and_rmse_are_after_the_logistic_map():
    x = np.linspace(1, 5, 60)
    mos = agreement.logistic4(x, 90, 10, 3.2, 0.4)
    assert agreement.plcc(x, mos) == pytest.approx(1, abs=1e-6)
    assert agreement.rmse(x, mos) == pytest.approx(0, abs=1e-3)
    assert np.corrcoef(x, mos)[0, 1] < 0.98, "without the map it would not be perfect"
    assert agreement.fit_logistic(x, mos) == pytest.approx([90, 10, 3.2, 0.4], rel=1e-3)


@pytest.mark.parametrize("beta", [[9, 1, 5, 1.5], [1, 9, 4, 0.7], [1e4, -1e4, 6, 1]], ids=str)
def test_the_logistic_map_is_found_that_rises_or_falls(beta):
    x = np.linspace(0, 10, 200)
    mos = agreement.logistic4(x, *beta)
    found = agreement.logistic4(x, *agreement.fit_logistic(x, mos))
    assert found == pytest.approx(mos, rel=1e-5, abs=1e-5 * np.ptp(mos))


def test_logistic_map_by_hand():
    # half-way up at the middle; a quarter of the way at middle - width * ln 3; the sign of width is ignored
    y = agreement.logistic4([3.0, 3.0 - 0.5 * np.log(3)], 80, 40, 3.0, -0.5)
    assert y == pytest.approx([60, 50])


@pytest.mark.parametrize(
    "prediction, mos, reason",
    [
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], "constant predictions"),
        ([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], "constant scores"),
        ([1.0], [2.0], "1 images"),
        ([1.0, float("nan"), 2.0], [1.0, 2.0, 3.0], "NaN or infinity among the predictions"),
    ],
)
def test_undefined_measures_are_nan_with_a_reason_and_no_warning(prediction, mos, reason):
    assert all(np.isnan(value) for value in agreement.agreement(prediction, mos).values())
    assert agreement.reason(prediction, mos) == reason


def test_a_handful_of_images_does_not_fail_the_fit():
    for n in (2, 3, 4, 5):
        rng = np.random.default_rng(n)
        assert np.isfinite(agreement.plcc(rng.normal(size=n), rng.normal(size=n)))


def test_scene_accuracy_counts_labels_found_among_as_many_guesses():
    p = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.2, 0.5, 0.3]])
    target = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1]])
    # 1 of 1; of the two likeliest, {0, 1}, one of {1, 2}; {0, 2} both; 0 of 1
    assert agreement.scene_accuracy(p, target) == pytest.approx((1 + 1 + 2 + 0) / 6)
    # The benchmark script forgets the last image, which has one label and was wrong.
    assert agreement.scene_accuracy_benchmark(p, target) == pytest.approx((1 + 1 + 2) / 5)


def test_distortion_accuracy_excludes_unlabelled_images():
    p = np.array([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [0.9, 0.1]])
    target = np.array([[1, 0], [1, 0], [1, 0], [0, 0]])
    assert agreement.distortion_accuracy(p, target) == pytest.approx(2 / 3)
    assert np.isnan(agreement.distortion_accuracy(p, np.zeros_like(target)))


def test_over_sessions_has_the_median_apart_from_the_mean():
    results = pd.DataFrame({"dataset": ["live"] * 3 + ["bid"], "session": [1, 2, 3, 1]})
    results["srcc"] = [0.9, 0.1, 0.8, np.nan]
    table = agreement.over_sessions(results)
    assert table.loc["live", ("srcc", "mean")] == pytest.approx(0.6)
    assert table.loc["live", ("srcc", "median")] == pytest.approx(0.8)
    assert table.loc["bid", ("srcc", "count")] == 0


def test_the_fit_does_not_depend_on_uninitialized_memory():
    """MINPACK of SciPy 1.15 to 1.17 reads past an array: it shows in a tenth of the fits to random scores."""
    rng = np.random.default_rng(0)
    for n in [12, 24] * 20:
        x, mos = rng.uniform(1, 5, n), rng.uniform(0, 100, n)
        found = set()
        for junk in (0.0, 1e6):
            held = [np.full(size, junk) for size in range(1, 200) for _ in range(12)]
            del held  # the fit may reuse this memory
            found.add(agreement.fit_logistic(x, mos).tobytes())
        assert len(found) == 1


def test_agreement_does_not_depend_on_threads():
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, 12_000)  # BLAS adds more than 10,000 numbers on several threads
    mos = 20 * x + rng.normal(0, 15, len(x))
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            found.append(agreement.agreement(x, mos))
    assert found[0] == found[1] == found[2]
