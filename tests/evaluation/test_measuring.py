"""Measuring: which images are predicted, at what cost, and how often a checkpoint is predicted."""

import pytest
import torch
from PIL import Image

from liqe_core.data.labelled import LabelledImages
from liqe_core.evaluation import measuring
from liqe_core.evaluation.measuring import measure, measure_kept, predict


def test_predictions_are_those_of_each_image_by_itself(small_liqe, images):
    rows = images.part(1, "val")
    together = predict(small_liqe, images, rows)
    alone = small_liqe.score([Image.fromarray(images.images[row]) for row in rows]).joint
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-4)


def test_checkpoints_of_one_epoch_are_measured_once(small_liqe, images, tmp_path, monkeypatch):
    for name, epoch in (("quality", 3), ("scene", 5), ("average", 3)):
        small_liqe.save(tmp_path / f"best_{name}.safetensors", recipe={"epoch": epoch})
    calls = []
    real = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda *a, **k: calls.append(1) or real(*a, **k))
    results = measure_kept(tmp_path, [images], 1, 1)
    assert len(calls) == 2
    assert results["checkpoint"].tolist() == ["average", "quality", "scene"]
    assert results.iloc[0, 3:].equals(results.iloc[1, 3:])


def test_a_image_smaller_than_a_crop_is_named(small_liqe, images):
    small = list(images.images)
    row = images.part(1, "val")[1]
    small[row] = small[row][:20]
    with pytest.raises(ValueError, match=f"{images.table['image'][row]}: 96 x 20"):
        measure(small_liqe, [LabelledImages("mini", images.table, small)], 1, "val")
