"""The notebook of benchmarks, in `smoke`."""

import json

import pandas as pd
import pytest

from liqe_core.commands import notebooks


def test_the_notebook_runs_in_smoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = notebooks.NOTEBOOKS / "90_benchmarks.ipynb"
    done = notebooks.execute(path, tmp_path / path.name, {"profile": "smoke", "half": "bfloat16"})
    assert done.error == ""
    folder = tmp_path / "benchmarks"
    steps = pd.read_csv(folder / "steps.csv")
    assert steps["best_seconds"].gt(0).all()
    assert steps["way"].tolist() == ["padded", "tree", "tree", "padded", "tree"]
    assert steps["images"].tolist() == [6, 6, 6, 48, 48] and set(steps["precision"][3:]) == {"bfloat16"}
    assert pd.read_csv(folder / "trie.csv")["prompts"].tolist() == [50, 495, 5000]
    beside = pd.read_csv(folder / "scoring.csv").set_index("way")
    assert beside.loc["float32", "apart"] == 0 and beside.loc["bfloat16", "apart"] > 0
    ten = pd.read_csv(folder / "ten_sessions.csv").set_index("way")
    assert ten.loc["ours", "hours"] > 0
    paper = steps[steps["images"] == 48].set_index("way")["best_seconds"]  # measured, so nothing is guessed
    hours = {"public": paper["padded"], "ours": paper["tree"]}
    for way, seconds in hours.items():
        assert ten.loc[way, "training_hours"] == pytest.approx(10 * 80 * 200 * seconds / 3600)
    assert json.loads(done.notebook.read_text())["cells"]
