"""Invalid settings are rejected by name before any work."""

import math

import pytest
from support.training import settings

from liqe_core.training.profiles import GROUP_OF, PROFILES, Profile, in_groups, profile
from liqe_core.training.runs import run_folder


@pytest.mark.parametrize(
    "overrides, name",
    [
        ({"keep_windows": True}, "freeze"),
        ({"keep_windows": True, "freeze": "image", "precision": "float16"}, "precision"),
        ({"keep_windows": True, "freeze": "image", "unlocked_groups": 1}, "unlocked_groups"),
        ({"control": "shuffled"}, "control.*'shuffled labels'"),
        ({"windows": 0}, "windows"),
        ({"quality_weight": 0.0}, "quality_weight"),
        ({"weight_decay": math.inf}, "weight_decay"),
        ({"temperature": 0}, "temperature"),
        ({"epochs": 2.5}, "epochs"),
        ({"device": 0}, "device"),
        ({"session": 11}, "session"),
        ({"batch_sizes": {}}, "batch_sizes"),
        ({"batch_sizes": {"mini": 0}}, "batch_sizes.mini"),
        ({"scene_words": "shoe;"}, r"scene\[1\]"),
        ({"template": "a {scene}"}, "quality"),
        ({"variant": "scene"}, "variant is 'scene'.*'quality\\+scene'"),
        ({"weighting": "mine"}, "weighting"),
        ({"lone_images": "drop step", "batch_sizes": {"one": 1, "two": 2}}, "batch_sizes of one is 1"),
        ({"epochs": 0, "steps": 0}, "epochs.*steps"),
        ({"colour": 1}, "colour.*architecture"),
    ],
    ids=str,
)
def test_invalid_settings_are_rejected_in_one_line(overrides, name):
    with pytest.raises(ValueError, match=name) as error:
        settings(**overrides)
    assert "\n" not in str(error.value)


def test_valid_settings_are_accepted():
    assert settings(keep_windows=True, freeze="image").model.keep_windows
    assert settings(freeze="image", unlocked_groups=3).model.unlocked_groups == 3
    assert settings(learning_rate=1, epochs=None).steps.learning_rate == 1.0


def test_settings_come_back_from_json_in_their_groups():
    for chosen in PROFILES.values():
        assert Profile.model_validate_json(chosen.model_dump_json()) == chosen
    assert settings(epochs=2).model_dump()["steps"]["epochs"] == 2


DECIDING = {"control": "quality alone", "windows": 3, "stand_in": False, "keep_windows": True}
DECIDING |= {"precision": "public", "pair_mean": "pairs"}
#: Settings that came after the first runs.
LATER = {"spread": 2**0.5, "distortion_loss": "public", "truncated": "accept", "sixteen_bit": "clip"}
LATER |= {"fastfading": "corrected"}


@pytest.mark.parametrize("name", DECIDING | LATER)
def test_settings_that_change_results_change_the_run_folder(name):
    frozen, value = settings(freeze="image"), (DECIDING | LATER)[name]
    assert run_folder(frozen.override(**{name: value}), "") != run_folder(frozen, "")
    assert (name in frozen.deciding()) == (name in DECIDING)


def test_settings_that_came_later_leave_older_runs_their_folder():
    assert run_folder(profile("smoke"), "").name.endswith("_f2da0b9f")
    assert run_folder(profile("open"), "").name.endswith("_c527328e")


def test_settings_that_change_no_results_share_a_folder():
    changed = settings(unseen_windows="public", device="cuda", save_seconds=1, max_skipped=2)
    changed = changed.override(gradient_checkpointing=True, unfit="leave out")
    assert run_folder(changed, "") == run_folder(settings(), "")


def test_paper_follows_the_public_script_and_no_other_profile_does():
    public = {"precision": "public", "lone_images": "drop step", "unseen_windows": "public"}
    public |= {"pair_mean": "sets", "ties": "half", "distortion_loss": "public", "spread": 1.0}
    paper = profile("paper")
    assert {name: paper.flat()[name] for name in public} == public
    for name, chosen in PROFILES.items():
        if name != "paper":
            assert chosen.machine.precision != "public" and chosen.losses.lone_images == "leave out"
            assert chosen.testing.unseen_windows == "even" and chosen.losses.ties == "half"
    assert profile("paper-float32").override(name="paper", **public) == paper, "nothing else differs"


def test_every_setting_has_one_group_and_runs_are_named_by_session_and_seed():
    runs = [profile("mini", session=k, seed=6 + k) for k in (1, 2)]
    lines = in_groups(runs)
    assert lines["runs"] == "session 1 with seed 7, session 2 with seed 8"
    assert set(lines) - {"runs"} == set(GROUP_OF.values()) - {""}
    assert "learning_rate" in lines["steps"] and "tf32" not in lines["machine"]
