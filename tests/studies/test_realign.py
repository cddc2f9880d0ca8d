import numpy as np
import pandas as pd
import pytest

from liqe_core.agreement import logistic4, srcc
from liqe_core.studies import realign as align
from liqe_core.studies.realign import curve_points, describe, judged, plant, realign, same_score_pairs

# Human scores as monotone warps of the true quality q in 1..5, each with its own units.
SCALES = {
    "logistic": lambda q: 100 / (1 + np.exp(-(q - 3) / 0.8)),
    "late": lambda q: 4 / (1 + np.exp(-(q - 3.8) / 0.8)) + 1,
    "root": lambda q: np.sqrt(q - 1),
    "power": lambda q: (q / 5) ** 2,
}


def planted(noise, count=800):
    rng = np.random.default_rng(3)
    sets = []
    for name, warp in SCALES.items():
        quality = rng.uniform(1, 5, count)
        human = warp(quality)
        human = human + noise * np.ptp(human) * rng.normal(size=count)
        predicted = quality + noise * rng.normal(size=count)
        columns = {"dataset": name, "mos": human, "prediction": predicted, "quality": quality}
        sets.append(pd.DataFrame(columns))
    return pd.concat(sets).sample(frac=1, random_state=0).reset_index(drop=True)


def test_without_noise_a_logistic_warp_is_undone_exactly():
    table = planted(noise=0.0).query("dataset == 'late'")
    scores, curves = realign(table)
    error = np.abs(scores["aligned"] - table["quality"])
    assert error[~scores["held"]].max() < 1e-4
    assert curves.at["late", "residual_after"] < 1e-5
    betas = curves.loc["late", ["beta1", "beta2", "beta3", "beta4"]].to_list()
    assert betas == pytest.approx([5, 1, 3.8, 0.8], rel=1e-4)


def test_shift_and_stretch_of_a_set_of_poor_images():
    # Quality 1..2 is reported almost linearly as 0..100: the naive scale is 1..5, the true one a quarter.
    quality = np.linspace(1, 2, 201)
    human = logistic4(quality, 1.0, 0.0, 1.5, 2.0)
    human = 100 * (human - human[0]) / (human[-1] - human[0])
    scores, curves = realign(pd.DataFrame({"dataset": "poor", "mos": human, "prediction": quality}))
    assert curves.at["poor", "stretch"] == pytest.approx(0.25, abs=0.002)
    # Exactly 1.5 and 1.732 of all 201 images; these are of half of them.
    naive = 1 + 4 * (quality - 1)
    rows = judged(scores).index
    assert curves.at["poor", "shift"] == pytest.approx((quality - naive)[rows].mean(), abs=0.005)
    expected = ((quality - naive)[rows] ** 2).mean() ** 0.5
    assert curves.at["poor", "residual_before"] == pytest.approx(expected, abs=0.01)


def test_declared_ranges_and_units_do_not_change_the_aligned_scores():
    table = planted(noise=0.02)
    scores, _ = realign(table)
    rescaled = table.assign(mos=table["mos"] * 7 - 3)
    wide, _ = realign(rescaled, ranges={"logistic": (-1000.0, 1000.0)})
    assert np.abs(wide["aligned"] - scores["aligned"]).max() < 1e-3
    logistic = wide[wide["dataset"] == "logistic"]
    assert logistic["raw"].min() > 0.49 and logistic["raw"].max() < 0.9
    assert logistic["naive"].to_numpy() == pytest.approx(1 + 4 * logistic["raw"].to_numpy())


def test_scores_beyond_the_curve_are_held_and_left_out_of_everything():
    table = planted(noise=0.0).query("dataset == 'logistic'").reset_index(drop=True)
    table.loc[0, "mos"], table.loc[1, "mos"] = 100.0, -50.0
    scores, curves = realign(table)
    ends = table["prediction"][scores["fitted"]]
    assert (scores.at[0, "aligned"], scores.at[1, "aligned"]) == (ends.max(), ends.min())
    assert scores.loc[[0, 1], "held"].all() and curves.at["logistic", "held"] == scores["held"].sum() >= 2
    kept = judged(scores)
    assert len(kept) == curves.at["logistic", "judged"] and not set(kept.index) & {0, 1}
    assert curves.at["logistic", "shift"] == pytest.approx((kept["aligned"] - kept["naive"]).mean())
    rms = ((kept["prediction"] - kept["aligned"]) ** 2).mean() ** 0.5
    assert curves.at["logistic", "residual_after"] == pytest.approx(rms)
    assert describe(curves).startswith(f"{scores['held'].sum()} of 800 images")


def test_a_curve_is_judged_on_other_images_than_it_was_fitted_on():
    table = planted(noise=0.05).query("dataset == 'root'").reset_index(drop=True)
    scores, curves = realign(table)
    assert scores["fitted"].sum() == 400
    # The judged half's scores may be anything: the curve stays as it was, and the numbers do not.
    spoilt = table.assign(mos=table["mos"].where(scores["fitted"], table["mos"].mean() + 0.1 * table["mos"]))
    _, second = realign(spoilt, ranges={"root": (0.0, 2.0)})
    betas = ["beta1", "beta2", "beta3", "beta4"]
    assert second.loc["root", betas].tolist() == curves.loc["root", betas].tolist()
    assert second.at["root", "residual_after"] > 2 * curves.at["root", "residual_after"]
    assert realign(table, seed=1).scores["fitted"].ne(scores["fitted"]).any()


def test_the_better_model_realigns_measurably_better():
    table, rng = planted(noise=0.05, count=300), np.random.default_rng(1)
    worse = table["prediction"] + rng.normal(0, 1.5, len(table))
    realigned = {"good": realign(table), "bad": realign(table.assign(prediction=worse))}
    found = align.thrown_together(realigned, table["quality"], "bad").set_index("realignment")
    assert list(found.index) == ["not realigned", "good", "bad"]
    both = judged(realigned["good"].scores).index.intersection(judged(realigned["bad"].scores).index)
    assert (found["images"] == len(both)).all() and len(both) > 200
    aligned = realigned["good"].scores["aligned"][both]
    assert found.at["good", "srcc"] == pytest.approx(srcc(aligned, table["quality"][both]))
    assert found.at["good", "verdict"] == "better" and found.at["good", "low"] > 0
    assert found.loc["bad", ["difference", "low", "high"]].tolist() == [0, 0, 0]


def test_a_curve_that_covers_few_images_is_rejected():
    rng = np.random.default_rng(0)
    x = rng.uniform(2.9, 3.1, 100)
    table = pd.DataFrame({"dataset": "flat", "prediction": x, "mos": x + rng.choice([-9, 9], 100)})
    scores, curves = realign(table.assign(mos=table["mos"] + 5 * (x - 3)))
    assert "beyond the curve: too few are left to judge it" in curves.at["flat", "reason"]
    assert scores["aligned"].isna().all() and judged(scores).empty and "no curve: flat" in describe(curves)


def test_datasets_without_a_curve_have_a_reason_and_keep_their_other_columns():
    good = planted(noise=0.0).query("dataset == 'root'")
    x = np.linspace(1, 5, 20)
    sets = {
        "few": (x[:3], x[:3], "2 images: a curve needs 8"),
        "same mos": (np.full(20, 2.0), x, "all human scores are equal"),
        "same prediction": (x, np.full(20, 2.0), "all predictions are equal"),
        "reversed": (x, -x, "human scores do not rise with the predictions"),
        "missing": (np.where(x > 0, np.nan, x), x, "0 images: a curve needs 8"),
    }
    frames = [pd.DataFrame({"dataset": n, "mos": m, "prediction": p}) for n, (m, p, _) in sets.items()]
    scores, curves = realign(pd.concat([good, *frames], ignore_index=True))
    assert curves["reason"].to_dict() == {"root": ""} | {name: reason for name, (*_, reason) in sets.items()}
    assert curves.at["missing", "dropped"] == 20
    assert scores.groupby("dataset")["aligned"].count().to_dict() == dict.fromkeys(sets, 0) | {"root": 800}
    assert scores["raw"].between(0, 1).sum() == 800 + 3 + 20 + 20
    assert set(curve_points(realign(pd.concat([good, *frames])))["dataset"]) == {"root"}


def test_invalid_input_is_named():
    table = planted(noise=0.0)
    with pytest.raises(KeyError, match="mos"):
        realign(table.rename(columns={"mos": "score"}))
    with pytest.raises(ValueError, match="of 'root' is 5"):
        realign(table, ranges={"root": (5, 1)})
    with pytest.raises(ValueError, match="empty"):
        realign(table[:0])


def test_curve_points_pass_through_the_logistic():
    realigned = realign(planted(noise=0.02))
    points = curve_points(realigned)
    assert len(points) == 100 * len(SCALES)
    late = points[points["dataset"] == "late"]
    assert late["mos"].is_monotonic_increasing
    fitted = realigned.scores.query("dataset == 'late' and fitted")["prediction"]
    assert (late["prediction"].min(), late["prediction"].max()) == (fitted.min(), fitted.max())
    mos = realigned.scores.query("dataset == 'late'")["mos"]
    assert late["raw"].to_numpy() == pytest.approx((late["mos"].to_numpy() - mos.min()) / np.ptp(mos))


def test_pairs_that_share_a_score_equal_brute_force():
    rng = np.random.default_rng(1)
    scores = pd.DataFrame({"dataset": rng.choice([*"xyz"], 400), "raw": rng.uniform(size=400).round(2)})
    scores = scores.assign(aligned=rng.uniform(1, 5, 400), fitted=rng.uniform(size=400) < 0.5)
    scores = scores.assign(held=rng.uniform(size=400) < 0.2).set_axis([f"i{k}" for k in range(400)])
    scores.loc["i3", "aligned"] = np.nan
    pairs = same_score_pairs(scores, tolerance=0.0051)
    assert list(pairs["gap"]) == sorted(pairs["gap"], reverse=True) and len(pairs) == 3
    free = scores[~scores["fitted"] & ~scores["held"]]
    for sets in ("x", "y"), ("x", "z"), ("y", "z"):
        first, second = (free[free["dataset"] == name].dropna() for name in sets)
        near = np.abs(np.subtract.outer(first["raw"].to_numpy(), second["raw"].to_numpy())) <= 0.0051
        gaps = np.abs(np.subtract.outer(first["aligned"].to_numpy(), second["aligned"].to_numpy())) * near
        row = pairs[pairs[["better_dataset", "worse_dataset"]].isin(sets).all(axis=1)]
        assert row["gap"].item() == gaps.max()
        i, j = np.unravel_index(gaps.argmax(), gaps.shape)
        assert {row["better"].item(), row["worse"].item()} == {first.index[i], second.index[j]}
    gaps = pairs["better_aligned"] - pairs["worse_aligned"]
    assert gaps.to_numpy() == pytest.approx(pairs["gap"].to_numpy())


def test_sets_that_share_no_score_give_no_pair():
    scores = pd.DataFrame({"dataset": ["x", "y"], "raw": [0.1, 0.9], "aligned": [2.0, 3.0]})
    scores = scores.assign(fitted=False, held=False)
    pairs = same_score_pairs(scores)
    assert pairs.empty and "better_dataset" in pairs.columns


QUALITY = pd.Series(np.linspace(1, 5, 800), index=range(100, 900))


def test_scales_rise_over_their_interval_and_stay_in_range():
    for warp in align.WARPS.values():
        scores = warp.scale(np.linspace(*warp.covers, 50))
        assert (np.diff(scores) > 0).all()
        assert (scores >= warp.range[0] - 1e-12).all() and (scores <= warp.range[1] + 1e-12).all()


def test_dealt_evenly_without_noise_by_the_sets_scale():
    table = plant(QUALITY, noise=0)
    assert table.index.equals(QUALITY.index) and table["quality"].equals(QUALITY.rename("quality"))
    counts = table["dataset"].value_counts()
    # A quarter each, but half of the web's images lie outside of 2..4 and go to the first.
    assert counts["lenient"] == counts["strict"] == 200
    assert counts["plain"] + counts["web"] == 400 and 70 < counts["web"] < 130
    strict = table[table["dataset"] == "strict"].iloc[0]
    assert strict["mos"] == pytest.approx(1 + 8 * ((strict["quality"] - 1) / 4) ** 2)
    assert plant(QUALITY, seed=1).equals(plant(QUALITY, seed=1))
    assert not plant(QUALITY, seed=1).equals(plant(QUALITY, seed=2))
