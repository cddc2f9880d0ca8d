"""The open benchmark: on tables where the answer is known, and once through on a toy set."""

import numpy as np
import pandas as pd
import pytest
from support.training import settings, small_set

from liqe_core.agreement import srcc
from liqe_core.studies import open_benchmark as study
from liqe_core.training.profiles import PROFILES


@pytest.fixture
def tables():
    """200 scored pictures, 60 of a set with distortions and scenes; two arms, one of which knows more."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 1, 200)
    true = pd.DataFrame({"dataset": "biq2021", "image": [f"{i}.jpg" for i in range(200)], "mos": mos})
    true = true.assign(true_distortion=None, scenes="", reference=None, near_duplicate=np.arange(200) < 20)
    other = pd.DataFrame({"dataset": "made", "image": [f"{i}.png" for i in range(60)], "mos": np.nan})
    other = other.assign(
        true_distortion=["blur", "noise", "blur"] * 20,
        scenes=["plant;landscape", "", "animal"] * 20,
        reference=None,
        near_duplicate=False,
    )
    true = pd.concat([true, other], ignore_index=True)
    runs = []
    for arm, noise in (("good", 0.05), ("bad", 1.0)):
        for seed in (1, 2):
            quality = np.r_[mos + noise * rng.normal(size=200), np.zeros(60)]
            said = {"arm": arm, "seed": seed, "scene": "landscape", "distortion": "blur"}
            runs.append(true[["dataset", "image"]].assign(quality=quality, **said))
    return true, pd.concat(runs, ignore_index=True)


def test_measures_of_each_set_and_without_near_duplicates(tables):
    true, predicted = tables
    found = study.run_table(predicted, true)
    one = found[(found["arm"] == "good") & (found["seed"] == 1)].set_index("dataset")
    assert list(one.index) == ["biq2021", "biq2021 without near-duplicates", "made"]
    assert one["pictures"].tolist() == [200, 180, 60]
    of = predicted[(predicted["arm"] == "good") & (predicted["seed"] == 1)].iloc[20:200]
    assert one["srcc"].iloc[1] == srcc(of["quality"].to_numpy(), true["mos"].iloc[20:200].to_numpy())
    assert np.isnan(one["srcc"].iloc[2]) and np.isnan(one["distortion_accuracy"].iloc[0])
    assert one["distortion_accuracy"].iloc[2] == pytest.approx(2 / 3)
    assert one["scene_accuracy"].iloc[2] == pytest.approx(1 / 2), (
        "one of two scenes will do; none is no answer"
    )


def test_a_difference_is_told_where_there_is_one(tables):
    true, predicted = tables
    pairs = [("good", "bad"), ("bad", "good"), ("good", "good"), ("good", "absent")]
    found = study.difference_table(predicted, true, pairs)
    whole = found[found["dataset"] == "biq2021"]
    assert whole["verdict"].tolist() == ["better", "worse", "cannot be told"]
    assert whole["difference"].iloc[0] == -whole["difference"].iloc[1] > 0.2
    assert (whole["low"] <= whole["difference"]).all() and (whole["difference"] <= whole["high"]).all()
    assert whole[["runs", "better"]].to_numpy().tolist() == [[2, 2], [2, 0], [2, 0]]
    assert "made" not in set(found["dataset"]), "nobody scored those"


def test_an_interval_covers_what_is_known():
    # of a bivariate normal with correlation r the rank correlation is 6/pi asin(r/2)
    rng, inside = np.random.default_rng(1), 0
    expected = 6 / np.pi * np.arcsin(0.6 / 2)
    for _ in range(20):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 150).T
        low, high = study.srcc_interval(x, y)
        assert low < srcc(x, y) < high
        inside += low < expected < high
    assert 16 <= inside <= 20


def test_a_constant_answer_counts_as_no_correlation(tables):
    true, predicted = tables
    good = predicted[(predicted["arm"] == "good") & (predicted["seed"] == 1)]
    found = study.level_table({"good": good, "constant": good.assign(quality=0.0)}, true)
    found = found.set_index(["dataset", "method"])
    assert found.loc[("biq2021", "constant"), ["srcc", "low", "high"]].tolist() == [0, 0, 0]
    assert found.loc[("biq2021", "good"), "srcc"] > 0.9
    assert found.loc[("biq2021 without near-duplicates", "good"), "pictures"] == 180


def test_every_arm_is_a_profile_that_can_be():
    names = [arm.name for arm in study.ARMS]
    assert len(set(names)) == len(names) and study.REFERENCE in names
    assert {name for pair in study.PAIRS for name in pair} <= set(names)
    made = [study.settings_of(arm, 3) for arm in study.ARMS]
    assert all(one.seed == 3 and one.name == "open-frozen" for one in made)
    assert {one.control for one in made} >= {"shuffled labels", "quality alone", "separate heads"}
    same = [one for one in made if "biq2021" in one.batch_sizes and len(one.batch_sizes) == 3]
    assert len({tuple(one.batch_sizes.items()) for one in same}) == 1, "the same batches for every arm"


def test_the_study_on_a_toy_set_trains_each_arm_once(tmp_path, monkeypatch):
    toy = settings(architecture="LIQE-mini", batch_norm="frozen", freeze="image", keep_windows=True, epochs=1)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PROFILES, "toy", toy)
    monkeypatch.setattr(study, "UNSEEN", ())
    monkeypatch.setattr(study, "sets_for", lambda *_: [small_set(tmp_path / "mini")])
    arms = [arm for arm in study.ARMS if arm.name in ("Q", "Q+S+D", "heads")]
    study.train_and_predict(arms, (1,), tmp_path, "toy", progress=False)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").rglob("*")}
    study.train_and_predict(arms, (1,), tmp_path, "toy", progress=False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").rglob("*")} == written

    predicted = study.gathered(tmp_path, "toy")
    assert set(predicted["arm"]) == {"Q", "Q+S+D", "heads"} and predicted.groupby("arm").size().eq(6).all()
    results = study.run_table(predicted, study.labels([small_set(tmp_path / "mini")])).set_index("arm")
    for arm in ("Q", "Q+S+D", "heads"):
        kept = pd.read_csv(tmp_path / "toy" / f"{arm}-1" / "results.csv").set_index("checkpoint")
        assert results.loc[arm, "srcc"] == pytest.approx(kept.loc["quality", "srcc"])
        if arm == "Q":
            assert np.isnan(results.loc[arm, "distortion_accuracy"]), "that arm says nothing of distortions"
        else:
            accuracy = kept.loc["quality", "distortion_accuracy"]
            assert results.loc[arm, "distortion_accuracy"] == pytest.approx(accuracy)
