"""What the tests of data share."""

import pandas as pd
import pytest
from support.data import MIRROR

from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import TRAINING_SETS


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A separate cache for the test, without the datasets of this machine."""
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIQE_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("LIQE_LABELS", raising=False)


@pytest.fixture(scope="session")
def released():
    """The authors' labels of the six training datasets; tests must not change them."""
    return pd.concat([read_labels(name, mirror=MIRROR) for name in TRAINING_SETS], ignore_index=True)
