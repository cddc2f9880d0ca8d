"""One process with the full batch and two processes with half of it take the same step."""

import json

import pandas as pd
import pytest
import torch
from support.training import settings, without_times
from support.two_processes import BATCHES, FITTED, gradients, run_two, sets

from liqe_core.evaluation.distributed import Ranks
from liqe_core.training.loop import Run, fit


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini")
    return root, sets(root)


@pytest.fixture(scope="module")
def two(images, tmp_path_factory):
    """The folder with the results of two processes."""
    folder = tmp_path_factory.mktemp("two")
    run_two(images[0], folder)
    return folder


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("mixed", ["", "_mixed"])
def test_two_processes_compute_the_gradients_of_one_process(two, images, tmp_path, name, mixed):
    extra = {"gradient_checkpointing": True, "precision": "bfloat16"} if mixed else {}
    run = Run(settings(batch_sizes=BATCHES[name], **extra), images[1], tmp_path)
    alone = gradients(run, run.batches.batch(0, 1))
    found = [torch.load(two / f"{name}{mixed}_{rank}.pt") for rank in (0, 1)]
    assert [f.pop("share").item() for f in found] == {"odd": [3, 2], "even": [3, 3], "last": [1, 1]}[name]
    text = [key for key in alone if key.startswith("clip.transformer.")]
    assert text and all(alone[key].abs().max() > 0 for key in text if key.endswith("weight"))
    for key, value in alone.items():
        assert torch.equal(found[0][key], found[1][key]), key
        if not mixed:
            assert (found[0][key] - value).norm() <= 1e-5 * value.norm() + 1e-7, key
    # bfloat16 keeps 8 bits, and products are rounded in other groups; a factor of two would still show
    ours, theirs = (torch.cat([g.flatten() for g in x.values()]) for x in (found[0], alone))
    assert (ours - theirs).norm() <= 0.1 * theirs.norm()


def test_a_run_with_two_processes_equals_a_run_with_one(two, images, tmp_path):
    results = fit(settings(**FITTED), images[1], tmp_path, progress=False)
    first, second = (pd.read_csv(two / f"results_{rank}.csv") for rank in (0, 1))
    pd.testing.assert_frame_equal(first, second)
    # which of six images ranks above which hangs on the last bit, so soon after random weights
    columns = ["checkpoint", "dataset", "images"]
    assert first[columns].equals(results[columns])
    frames = [without_times(pd.read_csv(folder / "steps.csv")) for folder in (two / "run", tmp_path)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-3)
    described = json.loads((two / "run" / "settings.json").read_text())
    assert described["machine"]["processes"] == 2 and len(described["starts"]) == 2


def test_shares_cover_everything_once():
    for count in (1, 2, 5, 6, 48):
        for world_size in (1, 2, 3, 7):
            parts = [list(range(count))[Ranks(rank, world_size).share(count)] for rank in range(world_size)]
            assert [i for part in parts for i in part] == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_processes_than_images_are_rejected(images):
    from liqe_core.training.preflight import chosen

    with pytest.raises(ValueError, match="3 processes"):
        chosen(settings(batch_sizes={"one": 1, "other": 1}), images[1], Ranks(0, 3))
    with pytest.raises(ValueError, match=r"batch_norm.*3 processes"):
        chosen(settings(batch_sizes={"one": 9}, batch_norm="learned"), images[1], Ranks(0, 3))
