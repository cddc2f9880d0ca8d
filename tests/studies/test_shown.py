"""What figures show, from run folders and kept tables."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from support.open_tables import write_open_tables
from support.runs import write_run

from liqe_core.data.manifests import TRAINING_SETS
from liqe_core.prompts import VARIANTS, PromptGrid
from liqe_core.studies import shown
from liqe_core.studies.ablations import STUDIES
from liqe_core.studies.finished import read_run, read_runs
from liqe_core.studies.paper_check import Check


def test_repeats_are_the_largest_group_then_the_one_with_more_tasks(tmp_path):
    full, quality = (write_run(tmp_path, variant=v, session=2) for v in (VARIANTS[-1], VARIANTS[0]))
    assert [run.folder for run in shown.repeats(read_runs(tmp_path).runs)] == [full]
    another = write_run(tmp_path, variant=VARIANTS[0], session=1)
    assert [run.folder for run in shown.repeats(read_runs(tmp_path).runs)] == [another, quality]
    assert shown.repeats([]) == []


def test_an_ablation_is_of_the_recipe_with_most_levels(tmp_path):
    for epochs, variants in ((3, VARIANTS[:2]), (2, VARIANTS)):
        for variant in variants:
            write_run(tmp_path, variant=variant, epochs=epochs)
    runs, study = read_runs(tmp_path).runs, STUDIES["variant"]
    of = shown.ablation(runs, study)
    assert {run.settings["epochs"] for run in of.runs} == {2} and of.table["level"].tolist() == list(VARIANTS)
    assert of.values == {}, "the paper's numbers belong beside its own protocol only"
    weights = shown.loss_weights(of.runs, study)
    assert set(weights["level"]) == set(VARIANTS)
    assert weights.loc[weights["level"] == "quality", "scene_weight"].isna().all()
    with pytest.raises(ValueError, match="differ in crops alone"):
        shown.ablation(runs, STUDIES["crops"])


def test_settings_of_another_version_are_told(tmp_path):
    run = read_run(write_run(tmp_path))
    run.settings["unheard_of"] = 1
    with pytest.raises(ValueError, match=r"another version.*unheard_of"):
        shown.settings_of(run)


def test_weights_that_are_gone_are_told(tmp_path):
    with pytest.raises(ValueError, match="best_"):
        shown.best(read_run(write_run(tmp_path)))


def test_what_was_planted_is_recovered():
    check, recovered = shown.planted_check()
    assert (recovered["error after"] < 0.3).all()
    assert check.curves["count"].sum() == 2000
    bent = recovered.loc[["lenient", "strict"]]
    assert (bent["error after"] < bent["error before"] / 2).all()
    assert set(check.curves.index) == set(recovered.index)


def test_the_papers_tables_stand_without_runs():
    text, distance, told, compared = shown.within_set([], [])
    assert distance.isna().all(axis=None), "nothing to shade by"
    assert not [row for row in text.index if row.startswith("ours")], "nor a row of ours"
    assert compared["reason"].str.startswith("no run").all()
    few = "LIQE\n(training not stated)"
    assert few not in text.index and " ".join(few.split()) in told and "LIQE" in text.index
    rest, blank = shown.third_hand()
    assert len(rest) and not set(rest.index) & {"LIQE", few} and blank.isna().all(axis=None)
    assert blank.shape == rest.shape


def test_within_set_ours_and_checked_weights_stand_below_what_is_published(tmp_path):
    srcc = dict.fromkeys(TRAINING_SETS, 0.9) | {"koniq10k": 0.929}
    runs = [read_run(write_run(tmp_path, srcc=srcc, name="paper", session=k)) for k in (1, 2)]
    measured = pd.DataFrame({"protocol": "within-set", "dataset": ["bid"], "metric": "SRCC", "value": 0.8})
    of_check = Check("official", {"session": 1}, measured, {})
    text, distance, _, compared = shown.within_set(runs, [of_check])
    assert list(text.index[-4:]) == [
        "LIQE",
        "official, session 1",
        "ours (2 sessions)",
        "ours, best by average",
    ]
    # of the two published values, 0.919 is of the paper's training; of 0.928 nobody says what it is of
    assert distance.loc["ours (2 sessions)", "koniq10k\nSRCC"] == pytest.approx(0.929 - 0.919)
    assert text.loc["ours (2 sessions)", "koniq10k\nPLCC"] == "no metric"
    of_bid = compared[(compared["dataset"] == "bid") & (compared["metric"] == "SRCC")]
    assert of_bid["official, session 1"].eq(0.8).all() and of_bid["best_by_average"].eq(0.9).all()


def test_a_set_that_nobody_published_has_a_column_where_ours_was_measured():
    rows = [("tid2013", None, 0.7), ("nowhere", None, None), ("spaq", 0.8, 0.75)]
    beside = pd.DataFrame(rows, columns=["dataset", "published", "ours"]).assign(
        metric="SRCC", reason="none: x"
    )
    beside["distance"] = beside["ours"] - beside["published"]
    text, distance, _, compared = shown.unseen("unseen", beside, [])
    assert text.loc["ours", "tid2013\nSRCC"] == "0.700" and "nowhere\nSRCC" not in text
    assert distance.loc["ours", "spaq\nSRCC"] == pytest.approx(-0.05) and compared is beside
    text, _, _, _ = shown.unseen("aigc", beside, [])
    assert not {"tid2013\nSRCC", "spaq\nSRCC"} & set(text) and "ours" in text.index
    text, _, _, _ = shown.unseen("unseen", beside.assign(ours=float("nan")), [])
    assert "ours" not in text.index and "tid2013\nSRCC" not in text


def test_answers_are_of_all_data_sets_together():
    grid, parts = PromptGrid(), []
    for name, labels in (("a", ["blur", "noise"]), ("b", ["blur", None])):
        table = pd.DataFrame({"dataset": name, "image": ["x", 1, 2], "distortion_group": ["jpeg", *labels]})
        joint = torch.zeros(2, 5, 9, 11)
        joint[:, 3, 0, grid.names("distortion").index("blur")] = 1  # good, and blurred, says the model
        parts.append((SimpleNamespace(table=table), [1, 2], joint))
    of = shown.Answers(SimpleNamespace(grid=grid), parts)
    assert of.table()["image"].tolist() == [1, 2, 1, 2], "the part's rows alone"
    assert of.table()["quality"].tolist() == [4.0] * 4
    counts = of.confusion("distortion")
    assert set(counts.index) == {"blur", "noise"} and counts.loc["blur", "blur"] == 2
    assert counts.loc["noise", "blur"] == 1 and counts.to_numpy().sum() == 3


def test_arms_compete_without_near_duplicates_and_two_scales_are_of_two_sets(tmp_path):
    write_open_tables(tmp_path)
    arms = pd.read_csv(tmp_path / "arms.csv")
    people, pairs = shown.arms_compete(arms)
    own = arms[arms["dataset"] == "biq2021"]
    assert len(people) == len(own) - own["near_duplicate"].sum() < len(own)
    assert not set(own.loc[own["near_duplicate"], "image"]) & set(pairs["better"])
    competition, verdicts = shown.people_judge(people, pairs)
    assert set(competition.ranking.index) == set(pairs["attacker"]) == set(verdicts["scorer"])
    between = shown.two_scales(arms.assign(quality=arms["Q"]))
    assert set(between.curves.index) == {"biq2021", "hevc as shown"}
    both = between.scores.groupby("dataset")["naive"].agg(["min", "max"])
    assert both["min"].ge(1).all() and both["max"].le(5).all(), "each by its own range"
