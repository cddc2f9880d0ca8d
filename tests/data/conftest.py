"""What the tests of data share."""

import pytest


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache of the test's own; nothing of this machine's own datasets is seen."""
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIQE_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("LIQE_LABELS", raising=False)
