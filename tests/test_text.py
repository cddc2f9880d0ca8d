"""The text tower's own `encode_text` on padded prompts is what everything is compared with."""

import copy

import pytest
import torch
import torch.nn.functional as F

from liqe_core import LIQE, PromptGrid, towers
from liqe_core.prefix_tree import PrefixTree
from liqe_core.prompts import VARIANTS, GridError
from liqe_core.text import (
    PromptEncoder,
    _bit_sum,
    encode_tree,
    separate_heads,
    shares_prefixes,
    text_parameters,
    tokenize,
)

OWN_GRIDS = {
    "one prompt": dict(quality=["fine"], scene=[], distortion=[], template="{quality}"),
    "words that begin other words": dict(
        quality=["good", "good enough", "good enough for now"],
        scene=[],
        distortion=[],
        template="so {quality}",
    ),
    "the same first words": dict(
        quality=["bad", "good"],
        scene=["old red car", "old red bus", "old blue car by the sea"],
        distortion=[],
        template="an {scene} that looks {quality}",
    ),
    "nothing in common": dict(
        quality=["zebra", "apple pie"], scene=[], distortion=["x", "rain"], template="{quality} {distortion}"
    ),
    "the same tokens": dict(quality=["Bad", "bad"], scene=[], distortion=[], template="a {quality} one"),
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
@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_and_gradients_equal_the_padded_ones(variant, sequence_length):
    clip, tokenizer = small_clip()
    tokens = tokenize(PromptGrid.variant(variant), tokenizer, 40)
    tree = PrefixTree.from_tokens(tokens, sequence_length)
    if variant == VARIANTS[-1]:
        assert (len(tree.tokens) > 30) == (sequence_length == 1)
    assert_same(clip, tokens, tree)


@pytest.mark.parametrize("own", OWN_GRIDS.values(), ids=OWN_GRIDS.keys())
def test_own_words_too(own):
    clip, tokenizer = small_clip()
    tokens = tokenize(PromptGrid(**own), tokenizer, 40)
    assert_same(clip, tokens, PrefixTree.from_tokens(tokens))


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


def test_gradient_checkpointing_changes_nothing():
    clip, tokenizer = small_clip()
    tokens = tokenize(PromptGrid.variant("quality"), tokenizer, 40)
    clip.set_grad_checkpointing(True)
    assert_same(clip, tokens, PrefixTree.from_tokens(tokens))


def test_tokens_are_the_tokenizers_own():
    tokenizer = towers.tokenizer({"text_cfg": {"context_length": 77}})
    grid = PromptGrid()
    tokens = tokenize(grid, tokenizer, 77)
    assert torch.equal(tokens, tokenizer(grid.prompts)) and tokens.shape == (495, 77)


@pytest.mark.parametrize("words", [7, 8, 100])
def test_a_prompt_longer_than_the_context_is_refused(words):
    # start + words + end: 6 words fit in a context of 8
    tokenizer = towers.tokenizer({"text_cfg": {"context_length": 8}})
    fits = PromptGrid(quality=["photo " * 5 + "photo"], scene=[], distortion=[], template="{quality}")
    assert (tokenize(fits, tokenizer, 8) > 0).all()
    grid = PromptGrid(quality=["ok", "photo " * words], scene=[], distortion=[], template="{quality}")
    with pytest.raises(GridError, match=r"prompt 1 does not fit .* context of 8 tokens: 'photo photo"):
        tokenize(grid, tokenizer, 8)


# ---- embeddings that are kept -------------------------------------------------------------------------


@pytest.fixture
def encoder(monkeypatch):
    """An encoder of five prompts that counts how often it computes."""
    clip, tokenizer = small_clip()
    encoder = PromptEncoder(clip, PromptGrid.variant("quality"), tokenizer)
    encoder.clip, encoder.calls, compute = clip, 0, encoder._encode

    def counted():
        encoder.calls += 1
        return compute()

    monkeypatch.setattr(encoder, "_encode", counted)
    return encoder


def fresh(encoder):
    with torch.no_grad():
        return F.normalize(encoder.clip.encode_text(encoder._tokens).float(), dim=-1)


def test_kept_while_nothing_changes(encoder):
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(encoder(), fresh(encoder), atol=1e-5, rtol=0)
    with torch.inference_mode():
        encoder()
    assert encoder.calls == 1


def optimizer_step(clip):
    optimizer = torch.optim.AdamW(text_parameters(clip), lr=1e-3)
    clip.encode_text(torch.ones(1, 40, dtype=torch.long)).sum().backward()
    optimizer.step()


def load_other(clip):
    clip.load_state_dict({k: v * 1.01 for k, v in clip.state_dict().items()})


def swap_rows(clip):
    weight = clip.transformer.resblocks[1].mlp.c_fc.weight.data
    weight[[0, 32]] = weight[[32, 0]]


def new_data(clip):
    clip.ln_final.bias.data = clip.ln_final.bias.data + 1e-3


def in_place(clip):
    with torch.no_grad():
        clip.text_projection.mul_(-1)


CHANGES = {
    "optimizer step": optimizer_step,
    "load_state_dict": load_other,
    "rows swapped": swap_rows,
    "p.data = ...": new_data,
    "in place under no_grad": in_place,
    "p.data.add_": lambda clip: clip.positional_embedding.data.add_(torch.randn(40, 16)),
    "one number": lambda clip: clip.transformer.resblocks[0].attn.in_proj_weight.data[7, 3].add_(1e-4),
    "a power of two": lambda clip: clip.ln_final.weight.data.mul_(2),
    "constants": lambda clip: clip.ln_final.weight.data.fill_(1),
    "other constants": lambda clip: clip.ln_final.weight.data.fill_(2),
    "a word in use": lambda clip: clip.token_embedding.weight.data[320].neg_(),  # "a"
    "dtype": lambda clip: clip.double(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_never_stale(encoder, change):
    with torch.no_grad():
        before = encoder().clone()
    change(encoder.clip)
    with torch.no_grad():
        after = encoder()
        encoder()
    assert encoder.calls == 2, "computed anew, once"
    torch.testing.assert_close(after, fresh(encoder), atol=1e-5, rtol=0)
    if change is not CHANGES["dtype"]:
        assert (after - before).abs().max() > 1e-6, "the change is one that shows"


def test_constants_do_not_hash_like_other_constants(encoder):
    encoder.clip.ln_final.weight.data.fill_(1)
    with torch.no_grad():
        encoder()
        for value in (2, -1, 0.5, -4):
            encoder.clip.ln_final.weight.data.fill_(value)
            torch.testing.assert_close(encoder(), fresh(encoder), atol=1e-5, rtol=0)
    assert encoder.calls == 5


@pytest.mark.parametrize("n", [1, 32, 512, 4096])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_hash_tells_powers_of_two_signs_and_places_apart(n, dtype):
    ones = torch.ones(n, dtype=dtype)
    one_off = ones.clone()
    one_off[-1] = torch.nextafter(one_off[-1], 2 * one_off[-1])
    variants = [ones, 2 * ones, -ones, ones / 2, 0 * ones, one_off]
    halves = torch.arange(n) % 2 == 0
    variants += [torch.where(halves, 2 * ones, ones), torch.where(halves, ones, 2 * ones)]
    if n > 1:
        variants += [torch.where(torch.arange(n) < n // 2, 2 * ones, ones)]
        variants += [torch.where(torch.arange(n) < n // 2, ones, 2 * ones)]
    distinct = {tuple(v.tolist()) for v in variants}
    assert len({int(_bit_sum(v)) for v in variants}) == len(distinct)
    assert _bit_sum(ones) == _bit_sum(torch.ones(2, n, dtype=dtype).T[:, 0]), "of the values, not the layout"


def test_what_does_not_matter_is_not_computed_anew(encoder):
    with torch.no_grad():
        encoder()
        for p in encoder.clip.visual.parameters():
            p.mul_(1.5)
        encoder.clip.logit_scale.add_(1)
        encoder.clip.token_embedding.weight[7].neg_()  # no prompt has this token
        encoder()
    assert encoder.calls == 1


def test_autocast_is_not_mixed_with_full_precision(encoder):
    with torch.no_grad():
        full = encoder().clone()
        with torch.autocast("cpu", torch.bfloat16):
            half = encoder().clone()
        assert encoder.calls == 2 and 1e-5 < (half - full).abs().max() < 0.1
        torch.testing.assert_close(encoder(), full)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_training_the_text_tower_always_computes_and_has_gradients(encoder, off):
    with off():
        encoder()
    for calls in (2, 3):
        embeddings = encoder()
        embeddings.sum().backward()
        assert encoder.calls == calls
    assert all(p.grad is not None and p.grad.isfinite().all() for p in text_parameters(encoder.clip))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_frozen_text_tower_is_kept_in_training_and_image_gradients_flow(off, monkeypatch):
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=PromptGrid.variant("quality"))
    for p in text_parameters(model.clip):
        p.requires_grad_(False)
    calls, compute = [], model.text._encode
    monkeypatch.setattr(model.text, "_encode", lambda: calls.append(1) or compute())
    crops = torch.randn(2, 3, 3, 32, 32)
    with off():
        model(crops)
    for _ in range(2):
        model(crops)[:, 0].sum().backward()
    assert len(calls) == 1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [model.clip.visual.proj])
    assert all(p.grad is None for p in text_parameters(model.clip))


def test_a_copy_of_a_model_has_its_own_embeddings():
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=PromptGrid.variant("quality"))
    crops = torch.randn(1, 1, 3, 32, 32)
    with torch.no_grad():
        before = model(crops)
        other = copy.deepcopy(model)
        other.clip.text_projection.mul_(-1)
        assert not torch.allclose(other(crops), before)
        assert torch.equal(model(crops), before)


# ---- a linear head an axis in place of the prompts ----------------------------------------------------


def test_rows_of_separate_heads_are_sums_in_the_order_of_the_grid():
    heads = [torch.randn(5, 7), torch.randn(1, 7), torch.randn(3, 7)]
    rows = separate_heads(heads)
    assert rows.shape == (15, 7)
    torch.testing.assert_close(rows[3 * 4 + 1], heads[0][4] + heads[1][0] + heads[2][1])


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
    assert (joint[0] - joint[1]).abs().max() > 1e-3 * joint.max(), "the heads do tell the pictures apart"

    model.save(tmp_path / "heads.safetensors")
    again = LIQE.from_checkpoint(tmp_path / "heads.safetensors")
    with torch.no_grad():
        assert torch.equal(again(crops), joint)


def test_with_separate_heads_the_text_tower_has_no_part():
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, separate_heads=True)
    crops = torch.randn(2, 1, 3, 32, 32)
    model(crops)[:, 0, 0, 0].sum().backward()
    with_gradient = {name for name, p in model.clip.named_parameters() if p.grad is not None}
    assert {"heads.0", "heads.1", "heads.2", "visual.proj"} <= with_gradient
    assert all(name.startswith(("visual.", "heads.")) for name in with_gradient)
    heads = set(model.clip.heads)
    with torch.no_grad():
        joint = model(crops)
        for parameter in text_parameters(model.clip):
            if parameter not in heads:
                parameter.normal_()
        assert torch.equal(model(crops), joint)
        model.clip.heads[2].mul_(2)  # what is kept of them is not kept longer than they are
        assert not torch.allclose(model(crops), joint)


def test_heads_of_another_grid_are_refused(tmp_path):
    LIQE.from_clip("LIQE-smoke", pretrained=None, separate_heads=True).save(tmp_path / "heads.safetensors")
    with pytest.raises(GridError, match=r"linear heads of \(5, 9, 11\) words, the grid has \(5, 1, 1\)"):
        LIQE.from_checkpoint(tmp_path / "heads.safetensors", grid=PromptGrid.variant("quality"))
