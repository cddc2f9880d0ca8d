"""Predictable failures are reported before the first step."""

import dataclasses

import numpy as np
import pytest
from support.training import settings

from liqe_core.data.labelled import LabelledImages
from liqe_core.training.preflight import chosen


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_an_image_smaller_than_a_crop_is_rejected_in_any_part(images, part):
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
    """A dataset with the given number of training images, and two images each for validation and test."""
    table = images.table.iloc[: training + 4].assign(session_1="train").reset_index(drop=True)
    table.loc[:1, "session_1"], table.loc[2:3, "session_1"] = "val", "test"
    table["mos"] = np.arange(training + 4.0)
    if not scored:
        table["mos"] = np.nan
    return LabelledImages(name, table, list(images.images)[: training + 4])


def test_batches_without_a_pair_are_rejected(images):
    one, other = of_size(images, "one", 7), of_size(images, "other", 5, scored=False)
    with pytest.raises(ValueError, match="batch_sizes from 2"):
        chosen(settings(batch_sizes={"one": 1, "other": 2}), [one, other])
    sizes = {"one": 2, "other": 1}
    assert chosen(settings(batch_sizes=sizes), [one, other]) == [one, other]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_equal_scores_are_reported(images, part):
    dataset = of_size(images, "one", 6)
    dataset.table.loc[dataset.part(1, part), "mos"] = 3.0
    unfit = part == "train"
    refused = pytest.raises(ValueError, match="train") if unfit else pytest.warns(UserWarning, match=part)
    with refused:
        chosen(settings(batch_sizes={"one": 3}), [dataset])
