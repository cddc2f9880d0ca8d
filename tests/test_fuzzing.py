"""Damaged headers: such a file is read, or refused in a sentence. LIQE_DAMAGED=1000 tries so many of each."""

import os
import random

from support.fuzzing import checkpoints, images, mutated, try_damaged
from support.models import of_twelve_prompts

from liqe_core import LIQE
from liqe_core.images import ImageError, read_image


def test_damaged_images_crash_hang_and_start_nothing():
    def read(content):
        image = read_image(content)
        assert image.mode == "RGB" and len(image.tobytes()) == 3 * image.width * image.height > 0

    count = int(os.environ.get("LIQE_DAMAGED", "300"))
    refused, wrong = try_damaged(images(), read, ImageError, count, header=200)
    assert wrong == [] and refused > count // 4, "they are damaged"


def test_damaged_checkpoints_crash_hang_and_start_nothing(tmp_path):
    def read(content):
        (tmp_path / "damaged").write_bytes(content)
        LIQE.from_checkpoint(tmp_path / "damaged")

    count = int(os.environ.get("LIQE_DAMAGED", "40"))
    refused, wrong = try_damaged(checkpoints(tmp_path), read, ValueError, count, header=2000)
    assert wrong == [] and refused > count // 4, "they are damaged"


def test_no_score_without_a_image():
    damaged = [mutated(content, random.Random(name)) for name, content in images().items()]
    prediction = of_twelve_prompts().score([*images().values(), *damaged], on_error="skip")
    assert not prediction.errors.keys() & set(range(len(images()))), "those that are whole"
    for i, quality in enumerate(prediction.quality.tolist()):
        assert (quality != quality) == (i in prediction.errors)
