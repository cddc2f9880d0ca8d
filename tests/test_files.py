import os

import pytest

from liqe_core.files import atomic_path, cache_dir


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
