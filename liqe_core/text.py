"""Exact text embeddings from the prefix tree of the prompts.

The tree goes through the text tower's own blocks, unmodified, with two changes to their input: positions are
depths, and the attention mask lets a node see its ancestors alone. Nothing is approximated: every embedding
and every gradient is that of the padded prompt, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liqe_core.prefix_tree import PrefixTree
from liqe_core.prompts import GridError, PromptGrid
from liqe_core.towers import Clip, Tokenizer

#: Sequences that go through the tower together; bounds the memory of their attention masks.
SEQUENCES_AT_ONCE = 64


def tokenize(grid: PromptGrid, tokenizer: Tokenizer, context_length: int) -> Tensor:
    """The grid's prompts as tokens, padded to the context as CLIP pads them.

    Returns:
        (N, context_length) int64.

    Raises:
        GridError: a prompt that does not fit (it would be cut, and its quality word lost).
    """
    prompts = grid.prompts
    tokens = tokenizer(prompts, context_length=context_length)
    # The tokenizer cuts without a word; with room to spare, what was cut has more than padding there.
    roomy = tokenizer(prompts, context_length=4 * context_length)
    padded = torch.cat([tokens, roomy[:, -1:].expand(-1, roomy.shape[1] - context_length)], dim=1)
    cut = (roomy != padded).any(dim=1)
    if cut.any():
        n = int(cut.int().argmax())
        problem = f"prompt {n} does not fit the text tower's context of {context_length} tokens"
        raise GridError(f"{problem}: {prompts[n]!r}; shorten its words or the template")
    return tokens


class PromptEncoder:
    """Unit-length text embeddings of a grid's prompts, from the text tower of an open_clip model.

    Where weights train, every call computes them. Otherwise they are computed once and kept until `forget`,
    which `LIQE.train`, `LIQE.eval`, `LIQE.to` and `load_state_dict` call. Call it after you edit a weight in
    place: nothing watches the weights.

    Towers that are not causal (SigLIP, Hugging Face text models) have no prefixes to share; they get
    the padded prompts through their own `encode_text`.
    """

    def __init__(self, clip: Clip, grid: PromptGrid, tokenizer: Tokenizer):
        words = tuple(map(len, getattr(clip, "heads", ()))) or grid.shape
        if words != grid.shape:
            raise GridError(f"the model has linear heads of {words} words, the grid has {grid.shape}")
        self.grid = grid
        self._clip = clip
        self.tokens = tokenize(grid, tokenizer, clip.context_length)
        self.tree = PrefixTree.from_tokens(self.tokens) if shares_prefixes(clip) else None
        self._kept: Tensor | None = None
        self._trained = False  # whether a training step was begun: any later one may change the weights
        clip.register_load_state_dict_post_hook(self.forget)

    def __call__(self) -> Tensor:
        """(N, E) float32, each row of length 1, in the order of the grid."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in text_parameters(self._clip)):
            self._trained, self._kept = True, None
            return self.embed()
        device = self._clip.logit_scale.device
        # Not as inference tensors: what is kept may have a part in a later training step.
        with torch.inference_mode(False), torch.no_grad():
            if self._trained or torch.is_autocast_enabled(device.type):
                return self.embed()
            if self._kept is None or self._kept.device != device:
                embeddings = self.embed()
                if torch.compiler.is_compiling() or torch.jit.is_tracing():  # no numbers yet
                    return embeddings
                self._kept = embeddings
            return self._kept

    def embed(self) -> Tensor:
        """The embeddings, computed now; differentiable."""
        device = self._clip.logit_scale.device
        if hasattr(self._clip, "heads"):
            return separate_heads(self._clip.heads)
        if self.tree is None:
            features = self._clip.encode_text(self.tokens.to(device))
        else:
            self.tree = self.tree.to(device)
            features = encode_tree(self._clip, self.tree)
        return F.normalize(features.float(), dim=-1)

    def forget(self, *_: object) -> None:
        """Compute the embeddings anew when they are next asked for, since a weight may have changed."""
        self._kept, self._trained = None, False


def text_tower(clip: Clip) -> Any:
    """Where an open_clip model keeps its text tower: on itself (CLIP) or in `.text` (CustomTextCLIP)."""
    return getattr(clip, "text", clip)


def text_parameters(clip: Clip) -> list[nn.Parameter]:
    """Every parameter of the text tower, in a fixed order."""
    apart = ("visual.", "logit_scale", "logit_bias")
    return [p for name, p in clip.named_parameters() if not name.startswith(apart)]


def separate_heads(heads: Sequence[Tensor]) -> Tensor:
    """What stands in the place of the prompts' embeddings where each axis has a linear head of its own.

    The logit of a combination is the sum of its words' logits, so the joint probability is the product of
    the axes' own softmaxes, and the rest of the model need not know.

    Args:
        heads: for each axis (words, E).

    Returns:
        (N, E), in the order of the grid.
    """
    total = heads[0]
    for head in heads[1:]:
        total = (total[:, None] + head).flatten(0, 1)
    return total


def shares_prefixes(clip: Clip) -> bool:
    """Whether the text tower is causal and reads a prompt at its highest token, as CLIP's does."""
    tower = text_tower(clip)
    pooling = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    return (
        isinstance(getattr(tower, "attn_mask", None), Tensor)
        and pooling == "argmax"
        and getattr(tower, "cls_emb", None) is None
        and hasattr(tower, "transformer")
    )


def encode_tree(clip: Clip, tree: PrefixTree) -> Tensor:
    """What `clip.encode_text` returns for the prompts of the tree, differentiable.

    Args:
        clip: an open_clip model for which `shares_prefixes` holds.
        tree: on the same device.

    Returns:
        (N, E), not normalised.
    """
    tower = text_tower(clip)
    transformer = tower.transformer
    dtype = transformer.get_cast_dtype()
    heads = transformer.resblocks[0].attn.num_heads
    states = []
    for start in range(0, len(tree.tokens), SEQUENCES_AT_ONCE):
        rows = slice(start, start + SEQUENCES_AT_ONCE)
        x = tower.token_embedding(tree.tokens[rows]).to(dtype)
        # F.embedding and not an index: on a CPU the gradient of an index is summed in no fixed order.
        x = x + F.embedding(tree.depth[rows], tower.positional_embedding).to(dtype)
        mask = tree.attention_mask(rows, dtype).repeat_interleave(heads, dim=0)
        states.append(transformer(x, attn_mask=mask).flatten(0, 1))
    x = torch.cat(states)[tree.ends]  # only where prompts end: the rest of the tower acts on each token alone
    x = tower.ln_final(x)
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
