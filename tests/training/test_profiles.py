"""Settings that cannot be are refused before any work, by name."""

import pytest
from support.training import settings

from liqe_core.training.profiles import CHOICES
from liqe_core.training.runs import run_folder


@pytest.mark.parametrize(
    "overrides, says",
    [
        ({"keep_windows": True}, "smoke: keep_windows needs freeze='image' and no unlocked_groups"),
        ({"keep_windows": True, "freeze": "text"}, "keep_windows needs freeze='image'"),
        ({"keep_windows": True, "freeze": "image", "unlocked_groups": 1}, "and no unlocked_groups"),
        ({"control": "shuffled"}, "control.*'shuffled'.*shuffled labels.*quality alone.*separate heads"),
        ({"windows": 0}, "windows"),
        ({"quality_weight": 0.0}, "smoke: quality_weight is 0.0; give a positive number"),
        ({"unlocked_groups": -1}, "unlocked_groups"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(overrides, says):
    with pytest.raises(ValueError, match=says):
        settings(**overrides)


def test_what_can_be_is_taken():
    assert settings(keep_windows=True, freeze="image").keep_windows
    assert settings(freeze="image", unlocked_groups=3).unlocked_groups == 3
    for control in CHOICES["control"]:
        assert settings(control=control).control == control


@pytest.mark.parametrize(
    "change",
    [
        {"control": "quality alone"},
        {"windows": 3},
        {"enlarge": True},
        {"stand_in": False},
        {"unlocked_groups": 1},
        {"quality_weight": 2.0},
        {"keep_windows": True},
    ],
    ids=str,
)
def test_they_decide_what_comes_out_of_a_run_and_so_its_folder(change):
    frozen = settings(freeze="image")
    assert run_folder(frozen.override(**change), "") != run_folder(frozen, "")
