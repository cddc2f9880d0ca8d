"""Runs at the same time end as they do one after the other."""

import pandas as pd
import pytest
import torch
from support.training import without_times

from liqe_core.training import side_by_side
from liqe_core.training.prepare import sets_for
from liqe_core.training.profiles import profile
from liqe_core.training.runs import is_finished, run_folder


def two_runs(**overrides):
    return [profile("smoke", device="cpu", session=k, seed=k, **overrides) for k in (1, 2)]


def test_runs_side_by_side_are_those_one_after_the_other(tmp_path):
    runs = two_runs(epochs=1)
    sets = sets_for(runs[0], progress=False)
    one_by_one = side_by_side.fit_all(runs, sets, tmp_path / "a", at_once=1, progress=False)
    together = side_by_side.fit_all(runs, sets, tmp_path / "b", at_once=2, progress=False)
    for run, before, after in zip(runs, one_by_one, together, strict=True):
        pd.testing.assert_frame_equal(before, after)
        steps = [pd.read_csv(run_folder(run, tmp_path / root) / "steps.csv") for root in "ab"]
        pd.testing.assert_frame_equal(*map(without_times, steps))


@pytest.mark.slow
def test_a_failed_run_is_reported_and_a_finished_run_is_kept(tmp_path):
    good, bad = two_runs()
    bad = bad.override(learning_rate=1e30)
    sets = sets_for(good, progress=False)
    side_by_side.fit_all([good], sets, tmp_path, progress=False)
    another = good.override(seed=9)
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="TrainingError"):
        side_by_side.fit_all([good, bad, another], sets, tmp_path, at_once=2, progress=False)
    assert is_finished(run_folder(good, tmp_path)) and not is_finished(run_folder(bad, tmp_path))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 6), ({"device": "cuda:0"}, 1), ({"pretrained": "openai"}, 1)],
    ids=["a small model", "on a GPU", "a large model"],
)
def test_how_many_at_once(monkeypatch, changes, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(side_by_side, "torch_device", torch.device)
    assert side_by_side.how_many(profile("smoke", **{"device": "cpu", **changes})) == expected
