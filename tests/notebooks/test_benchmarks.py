"""The notebook of benchmarks, in `smoke`."""

import pandas as pd
import pytest

from liqe_core.commands import notebooks


@pytest.mark.slow
@pytest.mark.parametrize("half", ["", "bfloat16"])
def test_the_notebook_runs_in_smoke(tmp_path, monkeypatch, half):
    monkeypatch.chdir(tmp_path)
    path = notebooks.NOTEBOOKS / "90_benchmarks.ipynb"
    done = notebooks.execute(path, tmp_path / path.name, {"profile": "smoke", "half": half})
    assert done.error == ""
    folder = tmp_path / "benchmarks"
    steps = pd.read_csv(folder / "steps.csv")
    assert steps["best_seconds"].gt(0).all()
    assert steps["way"].tolist() == ["padded", "tree", "tree"] + ["padded", "tree"] * bool(half)
    assert steps["images"].tolist() == [6] * 3 + [48] * 2 * bool(half)
    assert pd.read_csv(folder / "trie.csv")["prompts"].tolist() == [50, 495, 5000]
    beside = pd.read_csv(folder / "scoring.csv").set_index("way")
    assert beside.loc["float32", "apart"] == 0 and beside.loc["bfloat16", "apart"] > 0
    ten = pd.read_csv(folder / "ten_sessions.csv").set_index("way")
    assert ten.loc[["ours", "public"], "hours"].gt(0).all()
    for way, seconds in steps[steps["images"] == 48].set_index("way")["best_seconds"].items():
        name = {"tree": "ours", "padded": "public"}[way]  # measured, so nothing is guessed
        assert ten.loc[name, "training_hours"] == pytest.approx(10 * 80 * 200 * seconds / 3600)
