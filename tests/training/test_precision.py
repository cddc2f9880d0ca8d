"""The public script's weights in half precision: which ones, when, and that no float32 copy is kept."""

import pytest
import torch
from open_clip.model import convert_weights_to_lp
from support.training import EQUAL, settings

from liqe_core import towers
from liqe_core.training.loop import Run
from liqe_core.training.precision import Precision, half_weights, round_to_half, type_of_products
from liqe_core.training.step import build_model


def in_half(model) -> dict[str, bool]:
    return {name: torch.equal(p, p.half().float()) for name, p in model.clip.named_parameters()}


@pytest.mark.parametrize("architecture", ["LIQE-smoke", "LIQE-mini", "ViT-B-32-quickgelu", "RN50"])
def test_what_is_rounded_is_what_openais_function_converts(architecture):
    clip = towers.build(towers.architecture(architecture))
    ours = set(half_weights(clip))
    convert_weights_to_lp(clip, torch.float16)
    theirs = {name for name, p in clip.named_parameters() if p.dtype == torch.float16}
    assert ours == theirs
    assert "text_projection" in ours and "transformer.resblocks.0.attn.in_proj_weight" in ours
    kept = {"token_embedding.weight", "positional_embedding", "ln_final.weight", "logit_scale"}
    assert not ours & kept and kept <= {name for name, _ in clip.named_parameters()}


def test_linear_heads_are_rounded_like_linear_layers():
    clip = build_model(settings(control="separate heads")).clip
    assert {"heads.0", "heads.1", "heads.2"} <= set(half_weights(clip))


def test_rounding_is_to_the_nearest_number_of_half_precision_and_ties_are_even():
    below = torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 0.1, -(2.0**-26), 2**-25 * 1.01, 2.0**-6 + 5e-6])
    expected = torch.tensor([1.0, 1 + 2**-9, 0.0999755859375, 0.0, 2**-24, 2.0**-6])
    round_to_half(below)
    assert torch.equal(below, expected) and below.dtype == torch.float32


def test_a_run_starts_with_and_steps_to_numbers_of_half_precision(images, tmp_path):
    run = Run(settings(precision="public"), [images], tmp_path)
    rounded = set(half_weights(run.model.clip))
    before = {name: p.clone() for name, p in run.model.clip.named_parameters()}
    for step in range(3):
        assert all(is_half for name, is_half in in_half(run.model).items() if name in rounded)
        run.take_step(run.batches.batch(0, step), EQUAL, 1e-3)
    after = in_half(run.model)
    assert all(after[name] for name in rounded)
    assert not after["token_embedding.weight"] and not after["visual.class_embedding"]
    moved = {name for name, p in run.model.clip.named_parameters() if not torch.equal(p, before[name])}
    assert {"text_projection", "visual.proj", "visual.conv1.weight", "token_embedding.weight"} <= moved
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    exact = Run(settings(), [images], tmp_path)
    assert not in_half(exact.model)["text_projection"], "the default keeps float32"


def test_half_precision_products_need_a_gpu_and_unknown_names_are_rejected():
    assert type_of_products("public", "cpu") is None and type_of_products("float32", "cuda") is None
    assert type_of_products("public", "cuda") is torch.float16
    assert not Precision("public", clip=build_model(settings()).clip).scaler.is_enabled()
    with pytest.raises(ValueError, match="float8"):
        Precision("float8")
    with pytest.raises(ValueError, match="public"):
        Precision("public")
