import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.data import write_image

from liqe_core import LIQE
from liqe_core.benchmarks import scoring


def test_both_precisions_are_timed_and_compared(tmp_path):
    files = [write_image(tmp_path / f"{i}.png", 80, 48, seed=i) for i in range(3)]
    table = scoring.side_by_side(files, "LIQE-smoke", seconds=0.01).set_index("way")
    assert list(table.index) == ["float32", "bfloat16"], "pyiqa has no model of this size"
    speed = table["images_a_second"]
    assert (speed * table["seconds"]).to_numpy() == pytest.approx(np.ones(2))
    assert table["times"].to_numpy() == pytest.approx(speed / speed.iloc[0])
    assert table["apart"]["float32"] == 0 < table["apart"]["bfloat16"] < 0.1


def test_the_port_uses_our_weights_without_downloads_or_caches(monkeypatch):
    model = LIQE.from_clip("LIQE-smoke", None)
    arch = SimpleNamespace(load=None, DEFAULT_CACHE_DIR="the user's")

    def create_metric(name, pretrained, **options):
        assert arch.DEFAULT_CACHE_DIR != "the user's" and not torch.is_grad_enabled()
        return name, pretrained, arch.load("ViT-B/32", "cpu")

    weights = {}
    clip_model = SimpleNamespace(build_model=lambda state: weights.update(state) or torch.nn.Identity())
    archs = SimpleNamespace(clip_model=clip_model, liqe_arch=arch)
    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    monkeypatch.setitem(sys.modules, "pyiqa.archs", archs)
    monkeypatch.setitem(sys.modules, "pyiqa.archs.clip_model", clip_model)
    monkeypatch.setitem(sys.modules, "pyiqa.archs.liqe_arch", arch)
    name, pretrained, _ = scoring.pyiqa_port(model)
    assert (name, pretrained, arch.DEFAULT_CACHE_DIR) == ("liqe", False, "the user's")
    assert torch.equal(weights["logit_scale"], model.clip.logit_scale)
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert scoring.pyiqa_port(model) is None
