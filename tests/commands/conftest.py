"""What the tests of scoring share."""

import warnings

import pytest
from support.models import of_twelve_prompts

from liqe_core.commands import sweep


@pytest.fixture(scope="module")
def client():
    """Two workers, with a scheduler in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with sweep.dask_client(workers=2, dashboard="127.0.0.1:0") as client:
            yield client


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
