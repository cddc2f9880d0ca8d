"""What figures show, from run folders and kept tables."""

import pandas as pd
import pytest
from support.runs import write_run

from liqe_core.prompts import VARIANTS
from liqe_core.studies import shown
from liqe_core.studies.ablations import STUDIES
from liqe_core.studies.finished import read_run, read_runs


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
    bent = recovered.loc[["lenient", "strict"]]
    assert (bent["error after"] < bent["error before"] / 2).all()
    assert set(check.curves.index) == set(recovered.index)


def test_the_papers_tables_stand_without_runs():
    text, distance, compared = shown.within_set([], [])
    assert distance.isna().all(axis=None) and (text.loc["ours (0 sessions)"] == "no run").all()
    assert compared["reason"].str.startswith("no run").all()
    beside = pd.DataFrame(columns=[*compared.columns.drop("best_by_average")])
    text, _ = shown.unseen("unseen", beside, [])
    assert "ours" in text.index and all(column.endswith("SRCC") for column in text)
    assert len(shown.third_hand()) and not set(shown.third_hand().index) & {"LIQE"}
