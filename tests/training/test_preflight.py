"""What can be known to fail is said before the first step."""

import dataclasses

import numpy as np
import pytest
from support.training import settings

from liqe_core.data.labelled import LabelledImages
from liqe_core.training.batches import TrainingBatches
from liqe_core.training.preflight import chosen, steps_without_pairs


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_image_smaller_than_a_crop_is_refused_in_any_part(images, part):
    row = int(images.part(1, part)[-1])
    pixels = list(images.images)
    pixels[row] = np.zeros((20, 120, 3), np.uint8)
    small, name = dataclasses.replace(images, images=pixels), images.table["image"][row]
    with pytest.raises(ValueError, match=rf"mini: .*{part}.*{name} \(120 x 20"):
        chosen(settings(), [small])
    assert chosen(settings(enlarge=True), [small]) == [small]
    unused = dataclasses.replace(small, table=small.table.copy())
    unused.table.loc[row, "session_1"] = None
    assert chosen(settings(), [unused]) == [unused], "it is in no part"


def of_size(images, name, training, scored=True):
    """A set with so many images to train on, of which it has two each to validate and to test on."""
    table = images.table.iloc[: training + 4].assign(session_1="train").reset_index(drop=True)
    table.loc[:1, "session_1"], table.loc[2:3, "session_1"] = "val", "test"
    table["mos"] = np.arange(training + 4.0)
    if not scored:
        table["mos"] = np.nan
    return LabelledImages(name, table, list(images.images)[: training + 4])


@pytest.mark.parametrize(
    "training, size, lone",
    [
        (7, 3, [2, 5]),  # 3, 3, 1, and again
        (6, 3, []),
        (1, 3, [0, 1, 2, 3, 4, 5]),
        (4, 1, [0, 1, 2, 3, 4, 5]),
        (2, 6, []),
    ],
)
def test_steps_without_a_pair(images, training, size, lone):
    dataset = of_size(images, "one", training)
    uneven = settings(batch_sizes={"one": size}, steps=6)
    found = steps_without_pairs(uneven, [dataset])
    assert found == lone
    drawn = TrainingBatches(uneven, [dataset])
    assert found == [step for step in range(6) if len(drawn.rows(0, step)[0]) < 2], "as they are drawn"


def test_another_set_may_have_the_pair(images):
    seven, five = of_size(images, "one", 7), of_size(images, "other", 5)
    sizes = {"one": 3, "other": 2}  # the second has 2, 2, 1 and again: both are lone in the third and sixth
    assert steps_without_pairs(settings(batch_sizes=sizes, steps=6), [seven, five]) == [2, 5]
    sizes = {"one": 3, "other": 4}  # 4, 1
    assert steps_without_pairs(settings(batch_sizes=sizes, steps=6), [seven, five]) == [5]
    unscored = of_size(images, "other", 5, scored=False)
    assert steps_without_pairs(settings(batch_sizes=sizes, steps=6), [seven, unscored]) == [2, 5]
    assert steps_without_pairs(settings(batch_sizes={"other": 1}, steps=6), [unscored]) == []


def test_batches_without_a_pair_are_told(images):
    sets, sizes = [of_size(images, "one", 7)], {"one": 3}
    with pytest.warns(UserWarning, match="2 of the 6 steps"):
        chosen(settings(batch_sizes=sizes, steps=6), sets)
    assert chosen(settings(batch_sizes=sizes, steps=6, lone_images="drop step"), sets) == sets
    with pytest.raises(ValueError, match="batch_sizes"):
        chosen(settings(batch_sizes={"one": 1}, steps=6), sets)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_equal_scores_are_told(images, part):
    dataset = of_size(images, "one", 6)
    dataset.table.loc[dataset.part(1, part), "mos"] = 3.0
    unfit = part == "train"
    refused = pytest.raises(ValueError, match="train") if unfit else pytest.warns(UserWarning, match=part)
    with refused:
        chosen(settings(batch_sizes={"one": 3}), [dataset])
