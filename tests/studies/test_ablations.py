"""Runs that differ only in one setting: which ones are compared and excluded, and the table."""

import numpy as np
import pandas as pd
import pytest
from support.runs import write_run

from liqe_core.prompts import VARIANTS
from liqe_core.studies import ablations
from liqe_core.studies.ablations import STUDIES, alike, brief, comparable, compare, paired, scores
from liqe_core.studies.finished import read_runs
from liqe_core.studies.intervals import mean_interval
from liqe_core.training.profiles import profile

STUDY = STUDIES["variant"]


def test_only_runs_that_differ_just_in_the_setting_are_compared(tmp_path):
    for seed in (1, 2):
        for variant in STUDY.levels:
            write_run(tmp_path, variant=variant, seed=seed)
    longer = write_run(tmp_path, epochs=7)
    other_data = write_run(tmp_path, data="xyz", seed=9)
    nan = write_run(tmp_path, skipped=1, seed=8)
    (tmp_path / "train" / "under_way").mkdir()
    damaged = write_run(tmp_path, seed=7)
    (damaged / "settings.json").write_text("{")

    runs, unread = read_runs(tmp_path)
    assert unread.set_index("run")["reason"]["under_way"] == "not finished"
    assert "JSONDecodeError" in unread.set_index("run")["reason"][damaged.name]

    chosen, excluded = alike(runs, profile("smoke"), STUDY)
    repeats = [(variant, (1, seed)) for variant in STUDY.levels for seed in (1, 2)]
    assert [(run.settings.model.variant, run.repeat) for run in chosen] == repeats
    reasons = excluded.set_index("run")["reason"]
    assert set(reasons.index) == {longer.name, other_data.name, nan.name}
    assert "epochs: 3 -> 7" in reasons[longer.name]
    assert "images" in reasons[other_data.name] and "steps" in reasons[nan.name]


def test_a_run_without_training_is_a_level(tmp_path):
    for level in STUDIES["freeze"].levels:
        folder = write_run(tmp_path, freeze=level)
        if level == "all":
            (folder / "steps.csv").write_text("epoch,step,learning_rate,gradient_norm,skipped\n")
    runs, unread = read_runs(tmp_path)
    chosen, excluded = alike(runs, profile("smoke"), STUDIES["freeze"])
    assert [run.settings.model.freeze for run in chosen] == ["", "text", "image", "all"]
    assert excluded.empty and unread.empty


def test_settings_that_change_no_results_may_differ(tmp_path):
    write_run(tmp_path, seed=1)
    write_run(tmp_path, seed=2, device="cpu", unseen_windows="public")
    changed = write_run(tmp_path, seed=3, ties="preferred")
    chosen, excluded = alike(read_runs(tmp_path).runs, profile("smoke"), STUDY)
    assert sorted(run.repeat for run in chosen) == [(1, 1), (1, 2)]
    assert excluded["run"].tolist() == [changed.name] and "ties" in excluded["reason"].item()


def test_the_table_pairs_seeds(tmp_path):
    scene, distortion = "quality+scene", "quality+distortion"
    reached = [("quality", 1, 0.1), ("quality", 2, 0.5), (scene, 1, 0.2), (scene, 2, 0.8)]
    reached.append((distortion, 3, 0.9))  # shares no seed with the reference
    for variant, seed, srcc in reached:
        write_run(tmp_path, srcc={"a": srcc, "b": srcc + 0.2}, variant=variant, seed=seed)
    runs, _ = read_runs(tmp_path)
    table = scores(runs, STUDY)
    means = table.set_index(["level", "seed"])["value"]  # of the two datasets
    assert means["quality", 1] == pytest.approx(0.2) and means["quality+scene", 2] == pytest.approx(0.9)
    row = compare(table, STUDY).set_index("level")
    assert row.loc["quality", "mean"] == pytest.approx(0.4)
    assert row.loc["quality", "spread"] == pytest.approx(0.4 / 2**0.5)
    assert np.isnan(row.loc["quality", "difference"])
    scene = row.loc["quality+scene"]
    assert scene["difference"] == pytest.approx(0.2)  # (0.3 - 0.2 + 0.9 - 0.6) / 2
    assert scene["better"] == 2 and scene["units"] == "2 seeds of session 1"
    assert np.isnan(scene["low"]) and scene["verdict"] == "not measurable"
    assert scene["reason"] == "2 seeds of session 1: an interval needs 6"
    alone = row.loc["quality+distortion"]
    assert np.isnan(alone["difference"]) and "same session and seed" in alone["reason"]
    assert row.loc["quality+scene+distortion", "reason"] == "no finished run"


def test_several_sessions_are_the_units():
    """A seed of the same session sees the same split: three of them are not three sessions."""
    rng = np.random.default_rng(3)
    rows = [(v, k, s, rng.uniform()) for v in STUDY.levels[:2] for k in range(1, 8) for s in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["level", "session", "seed", "value"])
    gains = paired(table, STUDY).set_index("session")["difference"]
    means = table[table["session"] == 4].groupby("level")["value"].mean()
    assert len(gains) == 7 and gains[4] == pytest.approx(means[STUDY.levels[1]] - means[STUDY.levels[0]])
    row = compare(table, STUDY).iloc[1]
    assert (row["low"], row["high"]) == mean_interval(gains.to_numpy()) and row["units"] == "7 sessions"
    assert row["difference"] == pytest.approx(gains.mean()) and row["reason"] == ""
    assert row["better"] == (gains > 0).sum()


def test_equal_runs_have_no_measurable_difference():
    rows = [(v, 1, s, v.count("+") / 10 + s) for v in (*STUDY.levels[:2], STUDY.levels[3]) for s in range(6)]
    table = pd.DataFrame(rows, columns=["level", "session", "seed", "value"])
    found = compare(table, STUDY).set_index("level")
    assert found.loc["quality+scene", ["low", "high"]].tolist() == pytest.approx([0.1, 0.1])
    assert found.loc["quality+scene+distortion", "verdict"] == "better"
    same = compare(table.assign(value=table["seed"]), STUDY).set_index("level")
    assert same.loc["quality+scene", "verdict"] == "not measurable"


def test_an_undefined_correlation_is_reported(tmp_path):
    write_run(tmp_path, srcc=float("nan"), variant="quality", seed=1)
    runs, _ = read_runs(tmp_path)
    row = compare(scores(runs, STUDY), STUDY).iloc[0]
    assert np.isnan(row["mean"]) and "not defined in 1 of 1 runs" in row["reason"]


def test_an_empty_folder_gives_an_empty_table_with_reasons(tmp_path):
    runs, unread = read_runs(tmp_path)
    assert runs == [] and unread.empty
    chosen, excluded = alike(runs, profile("smoke"), STUDY)
    assert chosen == [] and excluded.empty and not comparable(chosen, STUDY)
    table = compare(scores(chosen, STUDY), STUDY)
    assert table["reason"].eq("no finished run").all() and len(table) == 4


def test_comparable_needs_two_levels_of_one_repeat(tmp_path):
    write_run(tmp_path, variant="quality", seed=1)
    write_run(tmp_path, variant="quality+scene", seed=2)
    assert not comparable(read_runs(tmp_path).runs, STUDY)
    write_run(tmp_path, variant="quality+scene", seed=1)
    assert comparable(read_runs(tmp_path).runs, STUDY)


def test_brief_is_never_longer_than_the_profile():
    short = brief(profile("mini"), epochs=2, steps=5)
    assert (short.steps.epochs, short.steps.steps, short.steps.warmup_steps) == (2, 5, 2)
    assert brief(profile("smoke"), 100, 100) == profile("smoke")


def test_every_study_is_of_a_setting_and_its_levels_are_allowed():
    for name, study in ablations.STUDIES.items():
        assert study.setting == name and study.reference in study.levels
        for level in study.levels:
            assert study.level(profile("smoke", **{name: level})) == level


def test_an_ablation_is_of_the_recipe_with_most_levels(tmp_path):
    for epochs, variants in ((3, VARIANTS[:2]), (2, VARIANTS)):
        for variant in variants:
            write_run(tmp_path, variant=variant, epochs=epochs)
    runs, study = read_runs(tmp_path).runs, STUDIES["variant"]
    chosen = ablations.largest_comparable(runs, study)
    assert {run.settings.steps.epochs for run in chosen} == {2}
    table = ablations.summarise(chosen, study, paper=False).table
    assert table["level"].tolist() == list(VARIANTS)
    assert "paper" not in table, "the paper's numbers are shown only for its protocol"
    assert ablations.summarise(chosen, study, paper=True).table["paper"].notna().any()
    weights = ablations.loss_weights(chosen, study)
    assert set(weights["level"]) == set(VARIANTS)
    assert weights.loc[weights["level"] == "quality", "scene_weight"].isna().all()
    with pytest.raises(ValueError, match="differ only in crops"):
        ablations.largest_comparable(runs, STUDIES["crops"])
