"""Embeddings of a frozen tower, computed once: they equal the model's, and no image is read again."""

import dataclasses

import numpy as np
import pytest
import torch
from support.data import own_set
from support.training import CrashError, assert_same_run, at_step, crash, settings

from liqe_core import LIQE, crops, towers
from liqe_core.crops import CropGeometry, Statistics
from liqe_core.data.labelled import LabelledImages, packed_set
from liqe_core.evaluation.measuring import measure, predict
from liqe_core.prediction import expected_quality
from liqe_core.prompts import PromptGrid
from liqe_core.training import embeddings
from liqe_core.training.embeddings import kept_windows
from liqe_core.training.loop import fit
from liqe_core.training.step import build_model

KEPT = {"architecture": "LIQE-mini", "batch_norm": "frozen", "freeze": "image", "keep_windows": True}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def place(tmp_path):
    """The folder where embeddings are kept."""
    return tmp_path / "kept"


@pytest.fixture(scope="module")
def images(images):
    """24 images; those of 96 x 72 have two windows of 64, and the third, which is smaller, one."""
    cut = [p[:64, :80] if i == 2 else p for i, p in enumerate(images.images)]
    return LabelledImages(images.name, images.table, cut)


@pytest.fixture
def model():
    return LIQE.from_clip("LIQE-mini", pretrained=None, grid=PromptGrid.variant("quality"))


@pytest.fixture
def cut_rows(monkeypatch):
    """The rows whose windows are cut, in no order; four images to a file, three at once."""
    cut, rows = LabelledImages.testing_crops, []
    monkeypatch.setattr(embeddings, "PER_FILE", 4)
    monkeypatch.setattr(embeddings, "AT_ONCE", 3)
    monkeypatch.setattr(LabelledImages, "testing_crops", lambda *args: rows.append(args[1]) or cut(*args))
    return rows


def test_saved_embeddings_equal_the_models(images, model, cut_rows, place):
    model.train()
    kept = kept_windows(images, model, place, progress=False)
    assert model.training, "the model is left as it was"
    model.eval()
    assert sorted(cut_rows) == list(range(24)), "each once"
    assert kept.table is images.table and kept.name == images.name
    assert kept.images.counts.tolist() == [2, 2, 1] + [2] * 21
    for i, pixels in enumerate(images.images):
        windows = crops.testing_crops(pixels, model.geometry)
        with torch.no_grad():
            whole = [model.embed(windows), model.embed(windows.flip(-1))]
        assert kept.images[i].dtype == np.float16 and len(kept.images[i]) == 2
        for found, expected in zip(kept.images[i], whole, strict=True):
            close = dict(rtol=2**-10, atol=1e-4)
            torch.testing.assert_close(torch.tensor(found).float(), expected, **close)
        assert torch.equal(kept.testing_crops(i, model.geometry), torch.tensor(kept.images[i][0]).float())
    spread = kept.images[0].astype(float)
    assert np.abs(spread[0] - spread[1]).max() > 0.01, "a mirror image is not the same to this tower"
    assert np.abs(spread[0] - kept.images[1][0]).max() > 0.01


def test_half_precision_is_kept_apart(images, model, place):
    whole = kept_windows(images, model, place, progress=False)
    rounded = kept_windows(images, model, place, progress=False, precision="bfloat16")
    assert len(set(place.iterdir())) == 2
    apart = [np.abs(a.astype(float) - b).max() for a, b in zip(whole.images, rounded.images, strict=True)]
    largest = max(np.abs(a).max() for a in whole.images)
    assert 0 < max(apart) < 0.05 * largest, "bfloat16 has 8 bits, and half precision 11"
    with pytest.raises(ValueError, match="float16"):
        kept_windows(images, model, place, progress=False, precision="float16")


def test_an_interrupted_call_is_resumed_and_a_repeated_call_computes_nothing(
    images, model, cut_rows, monkeypatch, place
):
    whole = kept_windows(images, model, place.with_name("whole"), progress=False)
    cut = LabelledImages.testing_crops
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        patch.setattr(LabelledImages, "testing_crops", lambda *args: crash() if args[1] == 8 else cut(*args))
        kept_windows(images, model, place, progress=False)
    for missing in (range(8, 24), ()):
        cut_rows.clear()
        completed = kept_windows(images, model, place, progress=False)
        assert sorted(cut_rows) == list(missing)
    assert len(list(place.iterdir())) == 1
    assert all(np.array_equal(a, b) for a, b in zip(whole.images, completed.images, strict=True))


def change_weights(model):
    model.clip.visual.trunk.conv1[0].weight.data[0, 0, 0, 0] += 1e-6


def change_statistics_of_batches(model):
    next(b for name, b in model.clip.visual.trunk.named_buffers() if "running_mean" in name)[0] += 1e-6


def with_another_pixel(images):
    changed = [pixels.copy() for pixels in images.images]
    changed[20][0, 0, 0] ^= 1
    return dataclasses.replace(images, images=changed)


CHANGES = {  # a function returns other images, or changes the model
    "weights": lambda _, model: change_weights(model),
    "statistics of batches": lambda _, model: change_statistics_of_batches(model),
    "scaling": lambda _, model: setattr(model, "statistics", Statistics((0.4,) * 3, (0.5,) * 3)),
    "geometry": lambda _, model: setattr(model, "geometry", dataclasses.replace(model.geometry, stride=16)),
    "the same tensors, another activation": lambda _, model: model.architecture.update(quick_gelu=True),
    "a pixel": lambda images, _: with_another_pixel(images),
    "order": lambda images, _: dataclasses.replace(images, images=images.images[::-1]),
    "name": lambda images, _: dataclasses.replace(images, name="other"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_embeddings_of_another_tower_or_of_other_images_are_never_read(
    images, model, cut_rows, change, place
):
    kept_windows(images, model, place, progress=False)
    before = set(place.iterdir())
    cut_rows.clear()
    kept_windows(change(images, model) or images, model, place, progress=False)
    assert len(cut_rows) == 24 and set(place.iterdir()) > before


def test_trained_layers_do_not_change_the_saved_embeddings(images, model, cut_rows, place):
    kept_windows(images, model, place, progress=False)
    cut_rows.clear()
    model.clip.visual.head.proj.weight.data.normal_()
    model.clip.token_embedding.weight.data.normal_()
    relabelled = dataclasses.replace(images, table=images.table.assign(mos=1.0))
    kept_windows(relabelled, model, place, progress=False)
    assert cut_rows == []


def test_a_packed_store_is_known_by_its_checksums(model, cut_rows, tmp_path, place):
    packed = packed_set(own_set(tmp_path, 10, 96, 72), CropGeometry(window=64), progress=False)
    kept = kept_windows(packed, model, place, progress=False)
    in_memory = dataclasses.replace(packed, images=list(packed.images))
    cut_rows.clear()
    found = kept_windows(in_memory, model, place, progress=False)
    assert cut_rows == [] and np.array_equal(found.images[7], kept.images[7])
    with pytest.raises(TypeError, match="holiday"):
        kept_windows(kept, model, place, progress=False)


# ---- a run on saved embeddings ------------------------------------------------------------------------


def test_a_run_on_saved_windows_resumes_and_saves_complete_models(images, cache, tmp_path, monkeypatch):
    chosen = settings(**KEPT, save_seconds=0, epochs=2)
    whole = fit(chosen, [images], tmp_path / "whole", progress=False)
    assert len(list((cache / "embeddings").iterdir())) == 1

    monkeypatch.setattr(LIQE, "embed", lambda *_: pytest.fail("computed anew"))
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        at_step(patch, 4, crash)
        fit(chosen, [images], tmp_path / "stopped", progress=False)
    fit(chosen, [images], tmp_path / "stopped", progress=False)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")

    start, best = build_model(chosen), LIQE.from_checkpoint(tmp_path / "whole" / "best_quality.safetensors")
    (frozen, projection), (trunk, head) = (towers.trunk_and_head(m.clip.visual) for m in (start, best))
    for (name, value), after in zip(frozen.state_dict().items(), trunk.state_dict().values(), strict=True):
        assert torch.equal(value, after), name
    assert not torch.equal(projection.proj.weight, head.proj.weight)
    assert best.geometry == start.geometry and best.statistics == ((0.5,) * 3, (0.5,) * 3)

    rows = images.part(1, "test")
    kept = kept_windows(images, best, progress=False)
    on_kept, on_pixels = (expected_quality(predict(best, dataset, rows)) for dataset in (kept, images))
    torch.testing.assert_close(on_kept, on_pixels, rtol=0, atol=1e-4)
    assert on_pixels.std() > 50e-4, "there is something to rank"
    tested = whole[whole["checkpoint"] == "quality"]
    on_pixels = measure(best, [images], 1, "test")
    for column in ("srcc", "scene_accuracy", "distortion_accuracy"):
        assert on_pixels[column].item() == pytest.approx(tested[column].item(), abs=1e-9), column
