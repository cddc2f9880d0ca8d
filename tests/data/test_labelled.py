import numpy as np
import pandas as pd
import pytest
import torch
from support.data import MIRROR, SAMPLES, needs_mirror, needs_samples, own_set
from support.training import settings

from liqe_core.crops import CropGeometry
from liqe_core.data.labelled import LabelledPictures, packed_set, targets
from liqe_core.data.presence import MissingImagesError
from liqe_core.training.batches import TrainingBatches
from liqe_core.training.precision import Precision
from liqe_core.training.step import TrainStep


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))


@needs_samples
@needs_mirror
def test_the_real_samples_take_a_training_step(small_liqe, monkeypatch):
    monkeypatch.setenv("LIQE_LABELS", str(MIRROR))
    geometry = CropGeometry(window=32)
    koniq = packed_set("koniq10k", geometry, SAMPLES, missing="skip", progress=False)
    biq = packed_set("biq2021", geometry, SAMPLES, progress=False)
    assert (len(koniq), len(biq)) == (16, 300)
    chosen = settings(batch_sizes={"koniq10k": 4, "biq2021": 6})
    batch = TrainingBatches(chosen, [koniq, biq]).batch(0, 0)
    assert batch.crops.shape == (10, 3, 3, 32, 32) and batch.images[0].startswith("koniq10k/1024x768/")
    assert (batch.scene[:4].sum(1) >= 1).all() and (batch.scene[4:] == 0).all(), "BIQ2021 has no scenes"
    optimizer = torch.optim.AdamW(small_liqe.parameters(), lr=1e-4)
    before = [weight.detach().clone() for weight in small_liqe.parameters()]
    weights = {"quality": 1.0, "scene": 1.0, "distortion": 1.0}
    losses, norm = TrainStep(small_liqe, optimizer, Precision())(batch, weights, 1e-4)
    assert all(np.isfinite(value) for value in losses.values()) and 0 < norm < np.inf
    assert any(not torch.equal(p, q) for p, q in zip(small_liqe.parameters(), before, strict=True))
    assert targets(biq.table, small_liqe.grid)["mos"].shape == (300,)


@needs_samples
def test_a_public_split_without_val_gets_one():
    biq = packed_set("biq2021", root=SAMPLES, progress=False)
    public = set(biq.table.loc[biq.table["session_1"] == "test", "image"])
    assert len(public) == 60
    for session in (1, 7):
        assert len(biq.part(session, "train")) == 216 and len(biq.part(session, "val")) == 24
        assert set(biq.table["image"].iloc[biq.part(session, "test")]) == public
    assert set(biq.part(1, "val")) != set(biq.part(2, "val"))


def test_ones_own_set_gets_ten_splits(tmp_path):
    manifest = own_set(tmp_path, count=10)
    mine = packed_set(manifest.path, progress=False)
    assert [len(mine.part(3, part)) for part in ("train", "val", "test")] == [7, 1, 2]
    (manifest.folder() / "p004.png").unlink()
    with pytest.raises(MissingImagesError, match=r"1 of 10 .*p004"):
        packed_set(manifest, progress=False)
    smaller = packed_set(manifest, missing="skip", progress=False)
    assert len(smaller) == 9 and "p004.png" not in set(smaller.table["image"])
    # The others stay in the parts they were in.
    whole = mine.table.set_index("image")["session_5"]
    assert (smaller.table.set_index("image")["session_5"] == whole.drop("p004.png")).all()


def test_a_part_is_thinned_by_chance_and_always_alike():
    sides = ["train"] * 40 + ["val"] * 30 + ["test"] * 30
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(100)], "session_1": sides})
    table["session_2"] = sides[::-1]
    whole = LabelledPictures("own", table, [np.zeros((32, 32, 3), np.uint8)] * 100)
    thin = whole.thinned(10)
    for session in (1, 2):
        assert (thin.part(session, "train") == whole.part(session, "train")).all()
        for part in ("val", "test"):
            assert len(thin.part(session, part)) == 10
            assert set(thin.part(session, part)) < set(whole.part(session, part))
    assert thin.part(1, "test").tolist() != whole.part(1, "test")[:10].tolist(), "not the first ones"
    assert whole.thinned(10).table.equals(thin.table) and whole.thinned(30).table.equals(table)
    assert len(whole.part(1, "test")) == 30, "the set itself stays as it is"
