"""Training measured on models of a second, and arithmetic by hand."""

import numpy as np
import pytest
from support.training import settings, small_set

from liqe_core.benchmarks import steps
from liqe_core.benchmarks.steps import StepCase
from liqe_core.training.batches import TrainingBatches


@pytest.mark.slow
def test_steps_are_measured_in_processes_of_their_own():
    cases = [{"way": "tree"}, {"way": "padded", "precision": "nonsense"}]
    table = steps.measure_steps(cases, steps=1, images=3, architecture="LIQE-smoke", device="cpu")
    row = table.iloc[0]
    assert row["best_seconds"] > 0 and row["times_floor"] > 1
    assert 0.1 < row["peak_gb"] < 4
    assert "nonsense" in table["error"][1] and np.isnan(table["best_seconds"][1])


def test_a_step_without_enough_memory_is_reported(monkeypatch):
    monkeypatch.setattr("liqe_core.training.preflight.free_memory", lambda _: 1_000_000)
    with pytest.raises(MemoryError, match="GB"):
        steps.measure_step(StepCase(images=3, architecture="LIQE-smoke", device="cpu"))


def test_operations_are_those_of_the_formula():
    """Twelve squares of the width a token and block, and attention; three times with the way back, four where
    blocks are computed again."""
    case = StepCase(images=2, crops=3, architecture="LIQE-smoke")
    model = steps.build_model(settings())
    vision, text = model.architecture["vision_cfg"], model.architecture["text_cfg"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    blocks = 0
    for sequences, length, tower in ((6, patches + 1, vision), (*model.text.tree.tokens.shape, text)):
        square, attention = 12 * tower["width"] ** 2, 2 * length * tower["width"]
        blocks += 2 * sequences * length * tower["layers"] * (square + attention)
    counted = steps.count_operations(case)
    recomputed = steps.count_operations(StepCase(**{**vars(case), "gradient_checkpointing": True}))
    assert counted == pytest.approx(3 * blocks, rel=0.1)
    assert recomputed == pytest.approx(4 * blocks, rel=0.1)
    assert steps.count_operations(StepCase(**{**vars(case), "way": "padded"})) > 3 * counted
    assert steps.product_rate(seconds=0.0) > 1e8


def test_the_tree_grows_with_prefixes_not_prompts():
    table = steps.trie_cost((50, 495, 5_000)).set_index("prompts")
    assert table["padded_tokens"].to_dict() == {50: 50 * 77, 495: 38_115, 5_000: 385_000}
    assert table.loc[495, "tree_nodes"] == 2_203  # as counted when the project was designed
    assert (table["packed_tokens"] >= table["tree_nodes"]).all()
    assert (table["times_fewer"] > 12).all()


def test_ten_sessions_by_hand():
    table = steps.ten_sessions(0.5, 0.01, 5.0, 1.6).set_index("way")
    ours, public = table.loc["ours"], table.loc["public"]
    assert ours["evaluation_hours"] == pytest.approx(10 * (80 * 2359.1 + 4 * 4718.2) * 0.01 / 3600)
    assert public["evaluation_hours"] == pytest.approx(10 * 80 * 7077.3 * (0.01 + 0.1) / 3600)


def test_loader_throughput_counts_batches(tmp_path):
    images = small_set(tmp_path)
    batches = TrainingBatches(settings(crops=2), [images])
    row = steps.loader_throughput(batches, 0.5, count=3).iloc[0]
    assert row["consumed_per_second"] == 2
    assert row["times_enough"] == pytest.approx(row["batches_per_second"] / 2)
