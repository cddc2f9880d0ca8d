"""The tree is compared with prefixes collected in Python sets and dictionaries."""

import numpy as np
import pytest
import torch

from liqe_core import PromptGrid, towers
from liqe_core.prefix_tree import PrefixTree

END = 99  # the highest token, as CLIP's end of text is


def padded(prompts: list[list[int]]) -> torch.Tensor:
    width = max(len(prompt) for prompt in prompts) + 3
    return torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts])


def prefixes(prompts: list[list[int]]) -> set[tuple[int, ...]]:
    return {tuple(prompt[:n]) for prompt in prompts for n in range(1, len(prompt) + 1)}


def seen_from(tree: PrefixTree, mask: torch.Tensor, sequence: int, node: int) -> tuple[int, ...]:
    """The tokens a node may look at, from the first on; they must stand at positions 0, 1, 2, ..."""
    seen = (mask[sequence, node] == 0).nonzero()[:, 0]
    seen = seen[tree.depth[sequence, seen].argsort()]
    assert tree.depth[sequence, seen].tolist() == list(range(len(seen))), "one ancestor a position"
    assert node == seen[-1], "a node sees itself, and nothing deeper"
    return tuple(tree.tokens[sequence, seen].tolist())


def check(prompts: list[list[int]], sequence_length: int) -> PrefixTree:
    """Everything that makes a packed tree right, for any prompts."""
    tree = PrefixTree.from_tokens(padded(prompts), sequence_length)
    mask = tree.attention_mask(slice(None), torch.float32)
    sequences, length = tree.tokens.shape
    wanted = prefixes(prompts)
    assert tree.nodes == len(wanted)
    assert set(mask.unique().tolist()) <= {0.0, float("-inf")}
    assert length <= max(sequence_length, 2 * max(map(len, prompts)))

    # Every node attends to exactly the tokens of one prefix, and every prefix has a node.
    found = set()
    for s in range(sequences):
        for i in range(length):
            tokens = seen_from(tree, mask, s, i)
            if tokens != (0,):  # a filler
                found.add(tokens)
    assert found == wanted
    for n, prompt in enumerate(prompts):
        assert seen_from(tree, mask, *divmod(int(tree.ends[n]), length)) == tuple(prompt)
    return tree


def test_by_hand():
    # 7 - 1 - END        seven prefixes: 7, 71, 71E, 72, 723, 723E, 72E
    #   \ 2 - 3 - END
    #       \ END
    tree = check([[7, 2, 3, END], [7, 1, END], [7, 2, END]], 256)
    assert tree.nodes == 7 and tree.tokens.shape == (1, 7)
    assert sorted(zip(tree.depth[0].tolist(), tree.tokens[0].tolist(), strict=True)) == [
        (0, 7), (1, 1), (1, 2), (2, 3), (2, END), (2, END), (3, END),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "prompts",
    [
        [[5, END]],
        [[END]],
        [[5, 6, END]] * 4,  # words that differ only in case are the same tokens
        [[5, 6, END], [8, 6, END], [9, END]],  # not even the first token in common
        [[5, 6], [5, 6, 7], [5, 6, 7, 8], [5]],  # whole prompts that others begin with
        [[5] * n + [END] for n in range(1, 30)],
        [[5, END], [5] + [6] * 40 + [END]],
        [[1, a, b, c, END] for a in range(10, 14) for b in range(20, 24) for c in range(30, 34)],
    ],
)
@pytest.mark.parametrize("sequence_length", [1, 7, 256])
def test_shapes_of_trees(prompts, sequence_length):
    check(prompts, sequence_length)


@pytest.mark.parametrize("seed", range(12))
def test_any_set_of_prompts(seed):
    rng = np.random.default_rng(seed)
    prompts = []
    for _ in range(rng.integers(1, 40)):
        body = rng.integers(1, rng.integers(2, 5), size=rng.integers(0, 9)).tolist()
        prompts.append([*body, END])
    check(prompts, int(rng.integers(1, 60)))


def test_tokens_after_the_end_are_ignored():
    tree = PrefixTree.from_tokens(torch.tensor([[5, END, 3, 4], [5, END, END, 1]]))
    assert tree.nodes == 2 and tree.ends[0] == tree.ends[1]


def test_the_papers_prompts():
    tokens = towers.tokenizer({"text_cfg": {"context_length": 77}})(PromptGrid().prompts)
    tree = PrefixTree.from_tokens(tokens)
    assert tree.nodes == len(prefixes([row[: row.argmax() + 1].tolist() for row in tokens])) == 2203
    assert len(tree.tokens) == 9, "a sequence a scene"
