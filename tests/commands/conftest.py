"""What the tests of scoring share."""

import warnings

import pytest
from support.data import write_image
from support.models import of_twelve_prompts

from liqe_core.commands import sweep


@pytest.fixture(scope="module")
def client():
    """Two workers, with a scheduler in this process."""
    with (
        warnings.catch_warnings(action="ignore", category=ResourceWarning),
        sweep.dask_client(workers=2, dashboard="127.0.0.1:0") as client,
    ):
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


@pytest.fixture
def folder(empty_folder):
    """Twenty small images in ``images`` of the current folder, and one invalid file."""
    for i in range(20):
        write_image(empty_folder / f"images/{i:02}.png", 40, 32 + 3 * i, seed=i)
    (empty_folder / "images" / "07b.png").write_text("no image")
    return empty_folder
