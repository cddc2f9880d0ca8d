"""All results are compared with the text tower's `encode_text` on padded prompts."""

import copy

import pytest
import torch
import torch.nn.functional as F

from liqe_core import LIQE, PromptGrid, towers
from liqe_core.prefix_tree import PrefixTree
from liqe_core.prompts import VARIANTS, GridError
from liqe_core.text import PromptEncoder, encode_tree, shares_prefixes, text_parameters, tokenize

OWN_GRIDS = {
    "one prompt": dict(quality=["fine"], template="{quality}"),
    "nested words": dict(quality=["good", "good enough", "good enough now"], template="so {quality}"),
    "same first words": dict(scene=["old red car", "old red bus", "old hat"], template="{quality} {scene}"),
    "nothing alike": dict(
        quality=["zebra", "pie"], distortion=["x", "rain"], template="{quality} {distortion}"
    ),
    "the same tokens": dict(quality=["Bad", "bad"], template="a {quality} one"),
}


def small_clip(custom_text: bool = False, **text):
    config = {
        "embed_dim": 16,
        "custom_text": custom_text,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1},
        "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2} | text,
    }
    torch.manual_seed(3)
    clip = towers.build(config)
    with torch.no_grad():  # random, but not the tiny values of the initialisation, and no zeros or ones
        for p in text_parameters(clip):
            p.add_(0.1 * torch.randn_like(p))
    return clip, towers.tokenizer(config)


def value_and_gradients(clip, features):
    direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(4))
    unit = F.normalize(features, dim=-1)
    clip.zero_grad()
    (unit * direction.to(unit.dtype)).sum(dim=1).mean().backward()
    gradients = {n: p.grad.clone() for n, p in clip.named_parameters() if p.grad is not None}
    return unit.detach(), gradients


def assert_same(clip, tokens, tree):
    """Alike to 1e-5 in float32, and to 1e-12 in float64, where rounding does not hide a small mistake."""
    assert_equal_to(1e-5, clip, tokens, tree)
    if len(tokens) < 100:
        assert_equal_to(1e-12, clip.double(), tokens, tree)


def assert_equal_to(tolerance, clip, tokens, tree):
    ours, our_gradients = value_and_gradients(clip, encode_tree(clip, tree))
    padded, gradients = value_and_gradients(clip, clip.encode_text(tokens))
    torch.testing.assert_close(ours, padded, atol=tolerance, rtol=0)
    assert our_gradients.keys() == gradients.keys()
    assert {id(p) for p in text_parameters(clip)} == {id(dict(clip.named_parameters())[n]) for n in gradients}
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("sequence_length", [1, 256])
@pytest.mark.parametrize("name", [*VARIANTS, *OWN_GRIDS])
def test_embeddings_and_gradients_equal_the_padded_ones(name, sequence_length):
    clip, tokenizer = small_clip()
    words = {"scene": [], "distortion": []} | OWN_GRIDS.get(name, {})
    grid = PromptGrid.variant(name) if name in VARIANTS else PromptGrid(**words)
    tokens = tokenize(grid, tokenizer, 40)
    assert_same(clip, tokens, PrefixTree.from_tokens(tokens, sequence_length))


@pytest.mark.parametrize(
    "text",
    [{}, {"proj_bias": True}, {"proj_type": "none"}, {"ls_init_value": 0.5}, {"qk_norm": True},
     {"scale_heads": True, "scale_attn": True}],
    ids=str,
)  # fmt: skip
def test_other_causal_text_towers(text):
    clip, tokenizer = small_clip(custom_text=True, **text)
    assert shares_prefixes(clip)
    tokens = tokenize(PromptGrid.variant("quality"), tokenizer, 40)
    assert_same(clip, tokens, PrefixTree.from_tokens(tokens))


@pytest.mark.parametrize(
    "text",
    [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}, {"pool_type": "first"}],
    ids=str,
)
def test_towers_without_shared_prefixes_get_padded_prompts(text):
    clip, tokenizer = small_clip(custom_text=True, **text)
    encoder = PromptEncoder(clip, PromptGrid.variant("quality"), tokenizer)
    assert encoder.tree is None
    with torch.no_grad():
        expected = F.normalize(clip.encode_text(tokenizer(encoder.grid.prompts, context_length=40)), dim=-1)
        torch.testing.assert_close(encoder(), expected)
    encoder().sum().backward()
    assert all(p.grad is not None for p in text_parameters(clip))


@pytest.mark.parametrize("words", [7, 8, 100])
def test_a_prompt_longer_than_the_context_is_rejected(words):
    # start + words + end: 6 words fit in a context of 8
    tokenizer = towers.tokenizer({"text_cfg": {"context_length": 8}})
    fits = PromptGrid(quality=["photo " * 5 + "photo"], scene=[], distortion=[], template="{quality}")
    assert (tokenize(fits, tokenizer, 8) > 0).all()
    grid = PromptGrid(quality=["ok", "photo " * words], scene=[], distortion=[], template="{quality}")
    with pytest.raises(GridError, match="prompt 1"):
        tokenize(grid, tokenizer, 8)


# ---- embeddings that are kept -------------------------------------------------------------------------


@pytest.fixture
def model():
    """A model of five prompts whose text tower counts how often it computes."""
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=PromptGrid.variant("quality"))
    model.calls = 0

    def count(*_):
        model.calls += 1

    model.clip.ln_final.register_forward_hook(count)
    return model


CROPS = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(7))


def answer_and_truth(model):
    """The answers of a model, and its answers with newly embedded padded prompts."""
    with torch.no_grad():
        text = F.normalize(model.clip.encode_text(model.text.tokens), dim=-1)
        logits = model.logits(CROPS.flatten(0, 1), text).unflatten(0, CROPS.shape[:2]).mean(dim=1)
        return model(CROPS), model.joint(logits)


def load_other(model):
    model.clip.load_state_dict({k: v * 1.5 for k, v in model.clip.state_dict().items()})


def edit_in_place(model):
    for p in text_parameters(model.clip):
        p.data.mul_(1.5)


def fused_step(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    model(CROPS)[:, 0].sum().backward()
    with torch.no_grad():
        model(CROPS)  # evaluated between a gradient and its step
    optimizer.step()


@pytest.mark.parametrize(
    "change",
    [
        load_other,
        fused_step,
        lambda model: (edit_in_place(model), model.text.forget()),
        lambda model: (edit_in_place(model), model.train()),
        lambda model: (edit_in_place(model), model.eval()),
        lambda model: model.half().float(),
    ],
    ids=["load_state_dict", "fused step", "forget", "train", "eval", "half"],
)
def test_changed_weights_change_the_answer(model, change):
    before, _ = answer_and_truth(model)
    change(model)
    after, truth = answer_and_truth(model)
    torch.testing.assert_close(after, truth, atol=1e-6, rtol=1e-4)
    assert not torch.equal(after, before), "the change is one that shows"


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_the_text_is_cached_while_nothing_trains(model, off, photograph):
    for _ in range(2):
        model.score(photograph)
        with off():
            model(CROPS)
    assert model.calls == 1
    model(CROPS).sum().backward()  # tensors saved under inference_mode do not interfere
    model(CROPS), model(CROPS)
    assert model.calls == 4, "weights that train: at every call"


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_frozen_text_tower_is_kept_in_training_and_image_gradients_flow(model, off):
    for p in text_parameters(model.clip):
        p.requires_grad_(False)
    with off():
        model(CROPS)
    for _ in range(2):
        model(CROPS)[:, 0].sum().backward()
    assert model.calls == 1
    assert model.clip.visual.proj.grad.abs().sum() > 0
    assert all(p.grad is None for p in text_parameters(model.clip))


def test_autocast_is_not_mixed_with_full_precision(model):
    with torch.no_grad():
        full = model.text()
        with torch.autocast("cpu", torch.bfloat16):
            half = model.text()
        assert 1e-5 < (half - full).abs().max() < 0.1
        assert model.text() is full


def test_a_copy_of_a_model_has_its_own_embeddings(model):
    before, _ = answer_and_truth(model)
    copied = copy.deepcopy(model)
    load_other(copied)
    after, truth = answer_and_truth(copied)
    torch.testing.assert_close(after, truth, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(after, before)
    assert torch.equal(answer_and_truth(model)[0], before)


# ---- a linear head an axis in place of the prompts ----------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_separate_heads_make_the_joint_the_product_of_three_softmaxes(variant, tmp_path):
    grid = PromptGrid.variant(variant)
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid, separate_heads=True)
    crops = torch.randn(2, 1, 3, 32, 32)
    with torch.no_grad():
        joint = model(crops)
        image = F.normalize(model.clip.encode_image(crops[:, 0]), dim=-1) * model.clip.logit_scale.exp()
        q, s, d = ((image @ head.T).softmax(dim=-1) for head in model.clip.heads)
    assert joint.shape == (2, *grid.shape)
    torch.testing.assert_close(joint, torch.einsum("nq,ns,nd->nqsd", q, s, d))
    assert (joint[0] - joint[1]).abs().max() > 1e-3 * joint.max(), "the heads do tell the images apart"

    model.save(tmp_path / "heads.safetensors")
    reread = LIQE.from_checkpoint(tmp_path / "heads.safetensors")
    with torch.no_grad():
        assert torch.equal(reread(crops), joint)


def test_heads_of_another_grid_are_rejected(tmp_path):
    LIQE.from_clip("LIQE-smoke", pretrained=None, separate_heads=True).save(tmp_path / "heads.safetensors")
    with pytest.raises(GridError, match=r"\(5, 9, 11\)"):
        LIQE.from_checkpoint(tmp_path / "heads.safetensors", grid=PromptGrid.variant("quality"))
