"""A training step, measured: each way on a model of a second."""

import numpy as np
import pytest
import torch
from support.training import settings

from liqe_core.benchmarks import training


def test_steps_are_measured_in_processes_of_their_own():
    cases = [{"way": "tree"}, {"way": "padded", "precision": "nonsense"}]
    table = training.steps(cases, steps=1, pictures=3, architecture="LIQE-smoke", device="cpu")
    row = table.iloc[0]
    assert row["best_seconds"] > 0 and row["times_floor"] > 1
    assert 0.1 < row["peak_gb"] < 4
    assert "nonsense" in table["error"][1] and np.isnan(table["best_seconds"][1])


def test_a_step_without_memory_for_it_is_told(monkeypatch):
    monkeypatch.setattr(training, "free_memory", lambda _: 1_000_000)
    with pytest.raises(MemoryError, match="GB beside the weights"):
        training.one_step(pictures=3, architecture="LIQE-smoke", device="cpu")


def test_the_padded_step_is_the_same_step():
    """Both ways of the benchmark compute the same losses, so it compares equals."""
    losses = []
    for way in ("tree", "padded"):
        model = training.build_model(settings())
        if way == "padded":
            model.text.tree = None
        with torch.no_grad():
            losses.append(model(training.random_batch(model, 3, 2).crops))
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-4)
