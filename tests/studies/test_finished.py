"""Finished runs, and predictions of their models."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from support.runs import write_run

from liqe_core.prompts import VARIANTS, PromptGrid
from liqe_core.studies.finished import Answers, load_best, read_run, read_runs, repeated_runs


def test_repeats_are_the_largest_group_then_the_one_with_more_tasks(tmp_path):
    full, quality = (write_run(tmp_path, variant=v, session=2) for v in (VARIANTS[-1], VARIANTS[0]))
    assert [run.folder for run in repeated_runs(read_runs(tmp_path).runs)] == [full]
    another = write_run(tmp_path, variant=VARIANTS[0], session=1)
    assert [run.folder for run in repeated_runs(read_runs(tmp_path).runs)] == [another, quality]
    assert repeated_runs([]) == []


def test_missing_weights_are_reported(tmp_path):
    with pytest.raises(ValueError, match="best_"):
        load_best(read_run(write_run(tmp_path)))


def test_answers_are_of_all_data_sets_together():
    grid, parts = PromptGrid(), []
    for name, labels in (("a", ["blur", "noise"]), ("b", ["blur", None])):
        table = pd.DataFrame({"dataset": name, "image": ["x", 1, 2], "distortion_group": ["jpeg", *labels]})
        joint = torch.zeros(2, 5, 9, 11)
        joint[:, 3, 0, grid.names("distortion").index("blur")] = 1  # the model predicts good and blur
        parts.append((SimpleNamespace(table=table), [1, 2], joint))
    answers = Answers(SimpleNamespace(grid=grid), parts)
    assert answers.table()["image"].tolist() == [1, 2, 1, 2], "only rows of the part"
    assert answers.table()["quality"].tolist() == [4.0] * 4
    counts = answers.confusion("distortion")
    assert set(counts.index) == {"blur", "noise"} and counts.loc["blur", "blur"] == 2
    assert counts.loc["noise", "blur"] == 1 and counts.to_numpy().sum() == 3
