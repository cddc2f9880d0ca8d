import json
import os
from pathlib import Path

import pandas as pd
import pytest

from liqe_core.files import atomic_path, cache_dir, runs_dir, write_csv, write_json


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "elsewhere"))
    folder = cache_dir("mini", "v1")
    assert folder == tmp_path / "elsewhere" / "mini" / "v1"
    assert folder.is_dir()


def test_atomic_path_replaces_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with atomic_path(target) as part:
        assert part.suffix == ".csv"
        part.write_text("new")
        assert target.read_text() == "old", "nothing shows before the end"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"], "no temporary file is left"


def test_runs_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("LIQE_RUNS", raising=False)
    assert runs_dir("mini") == Path(__file__).resolve().parents[1] / "runs" / "mini"
    monkeypatch.setenv("LIQE_RUNS", str(tmp_path))
    assert runs_dir("mini") == tmp_path / "mini"


def test_tables_and_json_are_written_whole(tmp_path):
    write_csv(tmp_path / "a" / "t.csv", pd.DataFrame({"x": [1, 2]}))
    assert (tmp_path / "a" / "t.csv").read_text() == "x\n1\n2\n"
    write_json(tmp_path / "t.json", {"x": [1]})
    assert json.loads((tmp_path / "t.json").read_text()) == {"x": [1]}
