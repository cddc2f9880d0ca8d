"""Batches: drawn by place, shared out, read ahead."""

import pandas as pd
import pytest
import torch
from support.training import settings, small_set

from liqe_core.data.labelled import targets
from liqe_core.evaluation.distributed import ALONE, Ranks
from liqe_core.prompts import PromptGrid
from liqe_core.training.batches import TrainingBatches, batches_ahead


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini")
    sets = [small_set(root, "one"), small_set(root, "other")]
    return TrainingBatches(settings(batch_sizes={"one": 3, "other": 2}, crops=2), sets)


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
        found = list(batches_ahead(batches, 1, 2, 7, ALONE, readers))
        assert len(found) == 5
        for ours, batch in zip(expected, found, strict=True):
            assert ours.images == batch.images and torch.equal(ours.crops, batch.crops)
    assert list(batches_ahead(batches, 1, 7, 7, ALONE)) == []


def epoch_of(sets, **options) -> tuple[list, pd.DataFrame]:
    """The batches of an epoch, and their labels by image name."""
    chosen = settings(batch_sizes={"one": 4, "other": 4}, crops=2, session=2, **options)
    batches = TrainingBatches(chosen, sets)
    found = [batches.batch(0, step) for step in range(3)]  # 12 of each dataset
    rows = {}
    for batch in found:
        for i, name in enumerate(batch.images):
            scene, distortion = (tuple(part[i].tolist()) for part in (batch.scene, batch.distortion))
            rows[name] = (float(batch.mos[i]), int(batch.dataset[i]), scene, distortion)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mos", "dataset", "scene", "distortion"])
    return found, table.sort_index()


def test_shuffled_labels_are_those_of_other_training_images_of_the_set(tmp_path):
    first, second = small_set(tmp_path, "one"), small_set(tmp_path, "other")
    # Scenes that are unique to a dataset and to its training part show where shuffled labels come from.
    unused = first.table["session_2"] != "train"
    scenes = [("plant",) if out else ("animal",) if i % 2 else ("human",) for i, out in enumerate(unused)]
    first.table["scenes"] = pd.Series(scenes, dtype=object)
    second.table["scenes"] = pd.Series([("night",)] * len(second), dtype=object)
    sets, before = [first, second], [dataset.table.copy() for dataset in (first, second)]
    plain_batches, plain = epoch_of(sets)
    batches, shuffled = epoch_of(sets, control="shuffled labels")

    assert len(plain) == 24
    assert shuffled.index.equals(plain.index)
    pd.testing.assert_frame_equal(shuffled[["mos", "dataset"]], plain[["mos", "dataset"]])
    for a, b in zip(plain_batches, batches, strict=True):
        assert a.images == b.images and torch.equal(a.crops, b.crops)

    for number in (0, 1):
        was, now = (table[table["dataset"] == number] for table in (plain, shuffled))
        pairs = [sorted(zip(t["scene"], t["distortion"], strict=True)) for t in (was, now)]
        assert pairs[0] == pairs[1], "an image's scene and distortion stay together, within the set"
        assert (was["distortion"] != now["distortion"]).any()
    assert (plain["scene"] != shuffled["scene"]).any()

    # Validation and testing look at the tables, which are as they were.
    for s, table in zip(sets, before, strict=True):
        pd.testing.assert_frame_equal(s.table, table)
        scene = targets(s.table.iloc[s.part(2, "val")], PromptGrid())["scene"]
        assert scene[:, PromptGrid().names("scene").index("plant" if s is first else "night")].all()
    pd.testing.assert_frame_equal(epoch_of(sets, control="shuffled labels")[1], shuffled)  # the seed decides
