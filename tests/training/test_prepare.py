"""The datasets of a profile, found or generated."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from support.data import MIRROR, distorted_set, needs_mirror, own_set
from support.training import settings

from liqe_core.data.labelled import LabelledImages
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import TRAINING_SETS
from liqe_core.data.store import PackedStore, StoreError
from liqe_core.images import ImageError
from liqe_core.training import prepare
from liqe_core.training.batches import TrainingBatches, geometry_of
from liqe_core.training.prepare import decoded, labelled, scored_by_people, sets_for
from liqe_core.training.profiles import profile


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))


def test_the_substitute_score_of_a_generated_dataset_is_optional(tmp_path):
    path = str(distorted_set(tmp_path, photographs=10).path)
    scored = labelled(path, settings(), progress=False)
    bare = labelled(path, settings(stand_in=False), progress=False)
    assert len(scored) == len(bare) > 31 * 12
    assert scored.table["mos"].between(1, 5).all() and scored.table["mos"].nunique() > 20
    assert bare.table["mos"].isna().all()
    assert bare.table.drop(columns="mos").equals(scored.table.drop(columns="mos"))
    assert bare.images[7].tolist() == scored.images[7].tolist()


def test_scores_that_people_gave_stay(tmp_path):
    path = str(own_set(tmp_path, count=10).path)
    own = labelled(path, settings(stand_in=False), progress=False)
    assert own.table["mos"].tolist() == list(map(float, range(1, 11)))
    assert scored_by_people("biq2021") and scored_by_people(path)
    assert not scored_by_people("mini") and not scored_by_people("open-distorted")


def test_a_set_without_scores_trains_its_distortions(tmp_path):
    chosen = settings(stand_in=False, batch_sizes={"made": 4})
    made = labelled(str(distorted_set(tmp_path, photographs=10).path), chosen, progress=False)
    batch = TrainingBatches(chosen, [made]).batch(0, 0)
    assert all(map(math.isnan, batch.mos)) and (batch.distortion.sum(dim=1) == 1).all()


def test_images_that_are_too_small_are_enlarged_when_asked(tmp_path):
    path = str(own_set(tmp_path, count=10, width=30, height=20).path)
    for enlarge in (False, True):
        chosen = settings(enlarge=enlarge, batch_sizes={"holiday": 2})
        dataset = labelled(path, chosen, progress=False)
        batches = TrainingBatches(chosen, [dataset])
        if enlarge:
            assert dataset.images[0].shape == (32, 48, 3)
            assert batches.batch(0, 0).crops.shape == (2, 3, 3, 32, 32)
            assert dataset.testing_crops(0, geometry_of(chosen)).dtype == torch.uint8
        else:
            with pytest.raises(ImageError, match=r"holiday/p00\d\.png"):
                batches.batch(0, 0)


def test_files_that_the_public_loaders_accept_can_be_trained_on(tmp_path):
    own = own_set(tmp_path, count=10)
    cut, grey = (own.folder() / f"p00{number}.png" for number in (1, 2))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    Image.fromarray(np.full((48, 64), 40_000, np.uint16)).save(grey)
    public = {"truncated": "accept", "sixteen_bit": "clip"}
    for unfit in ("refuse", "leave out"):
        dataset = labelled(str(own.path), settings(unfit=unfit, **public), progress=False)
        assert len(dataset) == 10 and not dataset.left_out and dataset.images[2].min() == 255
        assert dataset.images.source == PackedStore.open(dataset.images.folder).source
    with pytest.raises(StoreError, match=r"p001\.png"):
        labelled(str(own.path), settings(), progress=False)
    dataset = labelled(str(own.path), settings(unfit="leave out"), progress=False)
    assert list(dataset.left_out) == ["p001.png"] and dataset.images[1].max() < 255


@needs_mirror
def test_fast_fading_images_can_be_trained_on_with_corrected_labels(monkeypatch):
    labels = read_labels("live", mirror=MIRROR)
    released = LabelledImages("live", labels, [np.zeros(1)] * len(labels))
    monkeypatch.setattr(prepare, "packed_set", lambda *_, **__: released)
    monkeypatch.setattr(prepare, "missing_datasets", lambda _: {})
    for value in ("released", "corrected"):
        table = labelled("live", settings(fastfading=value)).table
        assert table.equals(read_labels("live", mirror=MIRROR, fastfading=value))


def test_memory_for_decoded_images_is_reported_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_DATA", str(tmp_path))
    six, usage, paper = dict.fromkeys(TRAINING_SETS), prepare.shutil.disk_usage(tmp_path), profile("paper")
    needed = 33_591_199_968
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert "33.6GB are needed" in decoded(six, paper, refuse=True)
    assert "spaq 26.2GB" in decoded({"spaq": None}, paper)
    assert "koniq10k 4.75GB; unknown size: flive" in decoded({"koniq10k": 2015, "flive": None}, paper)
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match=r"33\.6GB are needed.*free some space"):
        decoded(six, paper, refuse=True)


def test_images_are_brought_to_the_size_at_which_people_saw_them(tmp_path):
    manifest = own_set(tmp_path, count=10, width=60, height=40)
    with pytest.raises(ValueError, match="shown"):
        labelled(str(manifest.path), settings(), progress=False, as_shown=True)
    manifest.path.write_text(manifest.path.read_text() + "shown: 2160\n")
    shown = labelled(str(manifest.path), settings(resize_to=80), progress=False, as_shown=True)
    assert shown.name == "holiday as shown" == shown.table["dataset"].unique().item()
    assert shown.images[0].shape == (80, 120, 3), "as much of that size as windows are laid over"
    as_it_is = labelled(str(manifest.path), settings(resize_to=80), progress=False)
    assert as_it_is.images[0].shape == (40, 60, 3) and as_it_is.name == "holiday"


def test_a_profile_may_look_at_some_of_the_images_only(tmp_path):
    path = str(own_set(tmp_path, count=40).path)
    (whole,) = sets_for(settings(batch_sizes={path: 4}), progress=False)
    (reduced,) = sets_for(settings(batch_sizes={path: 4}, measured=3), progress=False)
    assert len(whole.part(1, "test")) > 3 == len(reduced.part(1, "test")) == len(reduced.part(1, "val"))
    assert (reduced.part(1, "train") == whole.part(1, "train")).all()
