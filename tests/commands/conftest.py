"""What the tests of scoring share."""

import pytest
from support.models import of_twelve_prompts


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A small file of weights."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    of_twelve_prompts().save(path)
    return str(path)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """An empty folder, which is the current one, and a cache of its own in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    return tmp_path
