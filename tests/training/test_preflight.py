"""What can be known to fail is said before the first step."""

import dataclasses

import numpy as np
import pytest
from support.training import settings, small_set

from liqe_core.crops import CropGeometry
from liqe_core.data.labelled import LabelledPictures
from liqe_core.training.batches import TrainingBatches
from liqe_core.training.preflight import chosen, steps_without_pairs


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("mini"))


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_picture_smaller_than_a_crop_is_refused_in_any_part(pictures, part):
    row = int(pictures.part(1, part)[-1])
    pixels = list(pictures.pictures)
    pixels[row] = np.zeros((20, 120, 3), np.uint8)
    small, name = dataclasses.replace(pictures, pictures=pixels), pictures.table["image"][row]
    says = (
        rf"mini: 1 pictures of the {part} part are smaller than a crop of 32 x 32: {name} \(120 x 20 pixels\)"
    )
    with pytest.raises(ValueError, match=says):
        chosen(settings(), [small])
    assert chosen(settings(enlarge=True), [small]) == [small]
    other = dataclasses.replace(small, table=small.table.assign(session_1=small.table["session_1"]))
    other.table.loc[row, "session_1"] = None
    assert chosen(settings(), [other]) == [other], "it is in no part"


def of_size(pictures, name, training, scored=True):
    """A set with so many pictures to train on, of which it has one each to validate and to test on."""
    table = pictures.table.iloc[: training + 2].assign(session_1="train").reset_index(drop=True)
    table.loc[0, "session_1"], table.loc[1, "session_1"] = "val", "test"
    if not scored:
        table["mos"] = np.nan
    return LabelledPictures(name, table, list(pictures.pictures)[: training + 2])


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
def test_steps_without_a_pair(pictures, training, size, lone):
    of = of_size(pictures, "one", training)
    found = steps_without_pairs(settings(batch_sizes={"one": size}, steps=6), [of])
    assert found == lone
    drawn = TrainingBatches([of], {"one": size}, 1, settings().grid(), CropGeometry(window=32))
    assert found == [step for step in range(6) if len(drawn.rows(0, step)[0]) < 2], "as they are drawn"


def test_another_set_may_have_the_pair(pictures):
    one, other = of_size(pictures, "one", 7), of_size(pictures, "other", 5)
    sizes = {"one": 3, "other": 2}  # the second has 2, 2, 1 and again: both are lone in the third and sixth
    assert steps_without_pairs(settings(batch_sizes=sizes, steps=6), [one, other]) == [2, 5]
    sizes = {"one": 3, "other": 4}  # 4, 1
    assert steps_without_pairs(settings(batch_sizes=sizes, steps=6), [one, other]) == [5]
    unscored = of_size(pictures, "other", 5, scored=False)
    assert steps_without_pairs(settings(batch_sizes=sizes, steps=6), [one, unscored]) == [2, 5]
    assert steps_without_pairs(settings(batch_sizes={"other": 1}, steps=6), [unscored]) == []


def test_batches_without_a_pair_are_told(pictures):
    of, sizes = of_size(pictures, "one", 7), {"one": 3}
    with pytest.warns(UserWarning, match=r"in 2 of the 6 steps .* \(the first: step 2\)"):
        chosen(settings(batch_sizes=sizes, steps=6), [of])
    assert chosen(settings(batch_sizes=sizes, steps=6, lone_pictures="drop step"), [of]) == [of]
    with pytest.raises(ValueError, match=r"in 6 of the 6 steps .* give batch_sizes from 2"):
        chosen(settings(batch_sizes={"one": 1}, steps=6), [of])
