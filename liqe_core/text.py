"""Exact text embeddings from the prefix tree of the prompts.

The tree passes through the unmodified blocks of the text tower. Only their input changes: positions are
depths, and the attention mask restricts each node to its ancestors and itself. Nothing is approximated:
embeddings and gradients equal those of the padded prompts up to rounding.
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

#: Sequences in one forward pass of the tower; bounds the memory of their attention masks.
SEQUENCES_AT_ONCE = 64


def tokenize(grid: PromptGrid, tokenizer: Tokenizer, context_length: int) -> Tensor:
    """Tokenize the prompts of a grid, padded to the context length like in CLIP.

    Returns:
        (N, context_length) int64.

    Raises:
        GridError: if a prompt is too long. The tokenizer would cut it and lose its quality word.
    """
    prompts = grid.prompts
    tokens = tokenizer(prompts, context_length=context_length)
    # The tokenizer truncates silently. A truncated prompt has more than padding in a longer context.
    roomy = tokenizer(prompts, context_length=4 * context_length)
    padded = torch.cat([tokens, roomy[:, -1:].expand(-1, roomy.shape[1] - context_length)], dim=1)
    cut = (roomy != padded).any(dim=1)
    if cut.any():
        n = int(cut.int().argmax())
        problem = f"prompt {n} does not fit the text tower's context of {context_length} tokens"
        raise GridError(f"{problem}: {prompts[n]!r}; shorten its words or the template")
    return tokens


class PromptEncoder:
    """Unit-length text embeddings of the prompts of a grid, from the text tower of an open_clip model.

    While weights are trained, every call computes the embeddings. Otherwise they are computed once and cached
    until `forget`, which `LIQE.train`, `LIQE.eval`, `LIQE.to` and `load_state_dict` call. Call `forget` after
    you edit a weight in place, because such a change is not detected.

    Towers that are not causal (SigLIP, Hugging Face text models) have no shared prefixes. Their own
    `encode_text` receives the padded prompts.
    """

    def __init__(self, clip: Clip, grid: PromptGrid, tokenizer: Tokenizer):
        words = tuple(map(len, getattr(clip, "heads", ()))) or grid.shape
        if words != grid.shape:
            raise GridError(f"the model has linear heads for {words} words, but the grid has {grid.shape}")
        self.grid = grid
        self._clip = clip
        self.tokens = tokenize(grid, tokenizer, clip.context_length)
        self.tree = PrefixTree.from_tokens(self.tokens) if shares_prefixes(clip) else None
        self._kept: Tensor | None = None
        self._trained = False  # whether a training step was started: later steps may change the weights
        clip.register_load_state_dict_post_hook(self.forget)

    def __call__(self) -> Tensor:
        """Return (N, E) float32 embeddings in the order of the grid, each row of length 1."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in text_parameters(self._clip)):
            self._trained, self._kept = True, None
            return self.embed()
        device = self._clip.logit_scale.device
        # Not as inference tensors: a later training step may use the cached embeddings.
        with torch.inference_mode(False), torch.no_grad():
            if self._trained or torch.is_autocast_enabled(device.type):
                return self.embed()
            if self._kept is None or self._kept.device != device:
                embeddings = self.embed()
                if torch.compiler.is_compiling() or torch.jit.is_tracing():  # symbolic, not to be cached
                    return embeddings
                self._kept = embeddings
            return self._kept

    def embed(self) -> Tensor:
        """Compute the embeddings without the cache; differentiable."""
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
        """Discard the cached embeddings, because a weight may have changed."""
        self._kept, self._trained = None, False


def text_tower(clip: Clip) -> Any:
    """Return the module with the text tower: the model itself (CLIP) or its `.text` (CustomTextCLIP)."""
    return getattr(clip, "text", clip)


def text_parameters(clip: Clip) -> list[nn.Parameter]:
    """Return all parameters of the text tower, in a fixed order."""
    apart = ("visual.", "logit_scale", "logit_bias")
    return [p for name, p in clip.named_parameters() if not name.startswith(apart)]


def separate_heads(heads: Sequence[Tensor]) -> Tensor:
    """Combine one linear head per axis into a matrix that replaces the prompt embeddings.

    The logit of a combination is the sum of the logits of its words. The joint probability is therefore the
    product of the softmax of each axis, and the rest of the model stays unchanged.

    Args:
        heads: one (words, E) tensor per axis.

    Returns:
        (N, E), in the order of the grid.
    """
    total = heads[0]
    for head in heads[1:]:
        total = (total[:, None] + head).flatten(0, 1)
    return total


def shares_prefixes(clip: Clip) -> bool:
    """Return whether the text tower is causal and pools at the highest token, like CLIP's."""
    tower = text_tower(clip)
    pooling = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    return (
        isinstance(getattr(tower, "attn_mask", None), Tensor)
        and pooling == "argmax"
        and getattr(tower, "cls_emb", None) is None
        and hasattr(tower, "transformer")
    )


def encode_tree(clip: Clip, tree: PrefixTree) -> Tensor:
    """Compute the output of `clip.encode_text` for the prompts of the tree; differentiable.

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
        # F.embedding instead of indexing, whose gradient is summed in an undefined order on a CPU.
        x = x + F.embedding(tree.depth[rows], tower.positional_embedding).to(dtype)
        mask = tree.attention_mask(rows, dtype).repeat_interleave(heads, dim=0)
        states.append(transformer(x, attn_mask=mask).flatten(0, 1))
    x = torch.cat(states)[tree.ends]  # ends only: the remaining layers act on each token separately
    x = tower.ln_final(x)
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
