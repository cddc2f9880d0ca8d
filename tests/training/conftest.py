"""The small data set that most tests of training use; nothing changes it."""

import pytest
from support.training import small_set


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """24 pictures, 12 to train on."""
    return small_set(tmp_path_factory.mktemp("mini"))
