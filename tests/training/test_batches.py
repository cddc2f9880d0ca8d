"""Batches: drawn by place, shared out, read ahead."""

import threading

import pytest
import torch
from support.training import small_set

from liqe_core.crops import CropGeometry
from liqe_core.evaluation.ranks import Ranks
from liqe_core.prompts import PromptGrid
from liqe_core.training.batches import TrainingBatches, batches_ahead


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini")
    sets = [small_set(root, "one"), small_set(root, "other")]
    sizes = {"one": 3, "other": 2}
    return TrainingBatches(sets, sizes, 1, PromptGrid(), CropGeometry(window=32), crops=2, seed=7)


def test_shares_of_a_batch_are_the_batch(batches):
    whole = batches.batch(2, 1)
    parts = [batches.batch(2, 1, Ranks(rank, 3).share) for rank in range(3)]
    assert [len(part.crops) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.crops for part in parts]), whole.crops)
    for part in parts:  # every process has all the labels
        assert part.images == whole.images and torch.equal(part.mos, whole.mos)
        assert torch.equal(part.dataset, torch.tensor([0, 0, 0, 1, 1]))


def test_batches_come_in_order_from_any_step_whoever_reads_faster(batches):
    expected = [batches.batch(1, step) for step in range(2, 7)]
    for readers in (1, 3):
        found = list(batches_ahead(batches, 1, 2, 7, Ranks(), readers))
        assert len(found) == 5
        for one, other in zip(expected, found, strict=True):
            assert one.images == other.images and torch.equal(one.crops, other.crops)
    assert list(batches_ahead(batches, 1, 7, 7, Ranks())) == []


def test_a_reader_that_fails_tells_the_step_and_leaves_no_thread(batches, monkeypatch):
    real = TrainingBatches.batch

    def failing(self, epoch, step, share=None):
        if step == 2:
            raise OSError("the disk is gone")
        return real(self, epoch, step, share)

    monkeypatch.setattr(TrainingBatches, "batch", failing)
    before, taken = threading.active_count(), []
    with pytest.raises(OSError, match="the disk is gone"):
        for batch in batches_ahead(batches, 0, 0, 9, Ranks(), readers=2):
            taken.append(batch)
    assert len(taken) == 2
    assert threading.active_count() == before
