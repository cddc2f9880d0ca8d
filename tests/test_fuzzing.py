"""Damaged headers: what has one is read, or refused in a sentence; `support.fuzzing` tries more."""

import random

import pytest
import torch
from support.fuzzing import mutated, pictures, try_checkpoints, try_pictures

from liqe_core import LIQE, PromptGrid


@pytest.mark.parametrize("attempt, count", [(try_pictures, 300), (try_checkpoints, 24)])
def test_nothing_crashes_hangs_or_is_started(attempt, count):
    ended, wrong = attempt(count, seed=1, seconds=60)
    assert wrong == []
    assert sum(ended.values()) == count
    refused = sum(n for (_, outcome), n in ended.items() if outcome == "refused")
    assert refused > count // 4, "they are damaged"


def test_no_score_without_a_picture():
    grid = PromptGrid(quality=["bad", "good"], scene=[], distortion=[], template="{quality}")
    torch.manual_seed(0)
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid)
    damaged = [mutated(content, random.Random(name)) for name, content in pictures().items()]
    prediction = model.score([*pictures().values(), *damaged], on_error="skip")
    whole = len(pictures())
    assert not [i for i in prediction.errors if i < whole]
    for i, quality in enumerate(prediction.quality.tolist()):
        assert (quality != quality) == (i in prediction.errors)
