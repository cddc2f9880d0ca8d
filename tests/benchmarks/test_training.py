"""The benchmarks: what is counted, by hand; that each runs on a model of a second; and their notebook."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from support.training import settings, small_set

from liqe_core.benchmarks import protocol, training
from liqe_core.benchmarks.arithmetic import product_rate, step_operations
from liqe_core.commands import notebooks
from liqe_core.figures import benchmarks

TINY = {
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 10, "layers": 2},
    "text_cfg": {"width": 6, "layers": 3},
}


def test_operations_are_counted_by_hand():
    """2 pictures x 3 crops of 4 patches and a class token; 7 sequences of 11 text tokens."""
    patches = 2 * (6 * 4) * (3 * 8 * 8) * 10
    # a token: q, k, v, out of 10 x 10, 10 -> 40 -> 10; scores and sums over 5 tokens
    image = 2 * (6 * 5) * 2 * (4 * 100 + 2 * 400 + 2 * 5 * 10)
    text = 2 * (7 * 11) * 3 * (4 * 36 + 2 * 6 * 24 + 2 * 11 * 6)
    assert step_operations(TINY, 2, 3, (7, 11), passes=1) == patches + image + text
    assert step_operations(TINY, 2, 3, (7, 11)) == 3 * (patches + image + text)
    assert step_operations(TINY, 2, 3, (7, 11), passes=4) == 3 * patches + 4 * (image + text)
    assert product_rate(seconds=0.0) > 1e8


def test_the_tree_grows_with_prefixes_not_prompts():
    table = protocol.trie_cost((50, 495, 5_000)).set_index("prompts")
    assert table["padded_tokens"].to_dict() == {50: 50 * 77, 495: 38_115, 5_000: 385_000}
    assert table.loc[495, "tree_nodes"] == 2_203  # as counted when the project was designed
    assert (table["packed_tokens"] >= table["tree_nodes"]).all()
    assert (table["times_fewer"] > 12).all()


def test_ten_sessions_by_hand():
    table = protocol.ten_sessions(0.5, 0.01, 5.0, 1.6).set_index("way")
    assert table.loc["ours", "training_hours"] == pytest.approx(10 * 16_000 * 0.5 / 3600)
    assert table.loc["public", "training_hours"] == pytest.approx(10 * 16_000 * 5 / 3600)
    assert table.loc["ours", "evaluation_hours"] == pytest.approx(
        10 * (80 * 2359.1 + 4 * 4718.2) * 0.01 / 3600
    )
    assert table.loc["public", "evaluation_hours"] == pytest.approx(10 * 80 * 7077.3 * (0.01 + 0.1) / 3600)


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


def test_loader_throughput_counts_batches(tmp_path):
    table = protocol.loader_throughput([small_set(tmp_path)], 0.5, 6, 2, window=32, batches=3)
    row = table.iloc[0]
    assert row["consumed_per_second"] == 2
    assert row["times_enough"] == pytest.approx(row["batches_per_second"] / 2)


def test_figures_draw_what_was_measured_and_tell_what_was_not():
    table = pd.DataFrame(
        {
            "way": ["padded", "tree"],
            "pictures": [6, 48],
            "crops": 3,
            "gradient_checkpointing": [False, True],
            "best_seconds": [np.nan, 2.0],
            "floor_seconds": [np.nan, 1.5],
            "peak_gb": [np.nan, 3.0],
        }
    )
    time, memory = benchmarks.step_bars(table).axes
    assert [bar.get_width() for bar in time.patches] == [0, 2.0]
    assert [text.get_text() for text in memory.texts] == ["no memory for it", " 3"]
    assert [label.get_text() for label in time.get_yticklabels()][1] == "tree, 48 x 3, checkpointed"
    half = table.assign(precision=["float32", "float16"], compile=[False, True])
    names = [label.get_text() for label in benchmarks.step_bars(half).axes[0].get_yticklabels()]
    assert names == ["padded, 6 x 3", "tree, 48 x 3, float16, checkpointed, compiled"]
    trie = pd.DataFrame(
        {"prompts": [5, 50], "padded_tokens": [9, 90], "packed_tokens": [3, 30], "tree_nodes": [2, 20]}
    )
    (axes,) = benchmarks.trie_growth(trie).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[9, 90], [3, 30], [2, 20]]


def test_the_notebook_runs_in_smoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (done,) = notebooks.run(
        ["90_benchmarks"], tmp_path, {"profile": "smoke", "half": "bfloat16"}, progress=False
    )
    assert done.error == ""
    folder = tmp_path / "90_benchmarks"
    steps = pd.read_csv(folder / "steps.csv")
    assert steps["best_seconds"].gt(0).all() and steps["way"].tolist() == [
        "padded",
        "tree",
        "tree",
        "padded",
        "tree",
    ]
    assert steps["pictures"].tolist() == [6, 6, 6, 48, 48] and set(steps["precision"][3:]) == {"bfloat16"}
    assert {p.name for p in folder.glob("*.png")} == {"steps.png", "trie.png"}
    ten = pd.read_csv(folder / "ten_sessions.csv").set_index("way")
    assert ten.loc["ours", "hours"] > 0
    paper = steps[steps["pictures"] == 48].set_index("way")["best_seconds"]  # measured, so nothing is guessed
    hours = {"public": paper["padded"], "ours": paper["tree"]}
    for way, seconds in hours.items():
        assert ten.loc[way, "training_hours"] == pytest.approx(10 * 80 * 200 * seconds / 3600)
    assert json.loads(done.path.read_text())["cells"]
