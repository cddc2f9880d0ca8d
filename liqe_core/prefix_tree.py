"""The prefix tree of the prompts, packed into sequences for a causal transformer.

CLIP's text tower is causal: the state of a token depends only on the tokens before it. Prompts from one
template share long prefixes, so it is enough to compute each distinct prefix once: 2,203 positions instead
of 495 x 77 = 38,115 for the paper's grid. The tree is laid out in preorder and cut into sequences. The
position of a node is its depth, and a node attends only to its ancestors and itself.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

#: Nodes in a sequence. Attention is quadratic in this number, but each cut repeats the path to the cut.
SEQUENCE_LENGTH = 256


@dataclasses.dataclass(frozen=True)
class PrefixTree:
    """The distinct prefixes of the prompts, packed into sequences.

    Attributes:
        tokens: (S, L) int64, the token of each node; 0 for padding after a sequence shorter than L.
        depth: (S, L) int64, the position of each node in its prompt, from 0.
        first, last: (S, L) int64, the preorder interval of the subtree of each node. Within a sequence,
            node j is node i or its ancestor if and only if ``first[j] <= first[i] < last[j]``. A padding
            node is related only to itself.
        ends: (N,) int64, the last node of each prompt, as an index into the S*L nodes.
        nodes: the number of distinct prefixes.
    """

    tokens: Tensor
    depth: Tensor
    first: Tensor
    last: Tensor
    ends: Tensor
    nodes: int

    @classmethod
    def from_tokens(cls, tokens: Tensor, sequence_length: int = SEQUENCE_LENGTH) -> PrefixTree:
        """Build the tree of prompts that end at their highest token (CLIP's end-of-text token).

        Args:
            tokens: (N, T) int64, padded after the end of text.
            sequence_length: maximum number of nodes in a sequence; increased if a single path is longer.
        """
        rows = tokens.cpu().numpy()
        lengths = rows.argmax(axis=1) + 1
        n, width = rows.shape
        column = np.arange(width)
        rows = np.where(column < lengths[:, None], rows, -1)

        # Sorting puts prompts with a common prefix next to each other. Reading their new prefixes row by row
        # is then a preorder walk of the tree.
        order = np.lexsort(rows.T[::-1])
        rows, lengths = rows[order], lengths[order]
        shared = np.zeros(n, dtype=np.int64)  # tokens in common with the previous row
        shared[1:] = np.cumprod(rows[1:] == rows[:-1], axis=1).sum(axis=1)
        shared = np.minimum(shared, lengths)
        is_new = (column >= shared[:, None]) & (column < lengths[:, None])

        number = np.cumsum(is_new).reshape(n, width) - 1  # of the latest new node; valid where is_new
        path = np.where(is_new, number, -1)
        for row in range(1, n):  # a shared prefix has the nodes of the previous row
            path[row, : shared[row]] = path[row - 1, : shared[row]]
        depth = np.broadcast_to(column, is_new.shape)[is_new]
        token = rows[is_new]
        nodes = len(token)

        last = np.full(nodes, nodes)  # a subtree ends at the next node that is not deeper
        open_nodes: list[int] = []
        for node in range(nodes):
            while open_nodes and depth[open_nodes[-1]] >= depth[node]:
                last[open_nodes.pop()] = node
            open_nodes.append(node)

        end_of = np.empty(n, dtype=np.int64)
        end_of[order] = path[np.arange(n), lengths - 1]
        sequences = _pack(depth, last, max(sequence_length, 2 * int(lengths.max())))
        # Index `nodes` marks padding. Its preorder numbers lie past all nodes, one interval per position.
        length = max(map(len, sequences))
        packed = np.full((len(sequences), length), nodes)
        for row, sequence in enumerate(sequences):
            packed[row, : len(sequence)] = sequence
        filler, column = packed == nodes, nodes + np.arange(length)
        place = np.full(nodes + 1, -1)  # the last position of each node, since nodes can be repeated
        place[packed.flatten()] = np.arange(packed.size)
        arrays = {
            "tokens": np.append(token, 0)[packed],
            "depth": np.append(depth, 0)[packed],
            "first": np.where(filler, column, packed),
            "last": np.where(filler, column + 1, np.append(last, 0)[packed]),
            "ends": place[end_of],
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return cls(**tensors, nodes=nodes)

    def to(self, device: torch.device) -> PrefixTree:
        """Return the tree with its tensors on `device`."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "nodes"]
        return dataclasses.replace(self, **{name: getattr(self, name).to(device) for name in names})

    def attention_mask(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return the (s, L, L) mask: 0 where node i (row) attends to node j (column), -inf elsewhere."""
        first, last = self.first[rows], self.last[rows]
        start = first[:, :, None]
        sees = (first[:, None, :] <= start) & (start < last[:, None, :])
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))


def _pack(depth: np.ndarray, last: np.ndarray, length: int) -> list[np.ndarray]:
    """Cut the preorder walk into sequences of at most `length` nodes.

    Each sequence is a stretch of the walk, preceded by the ancestors of its first node. The ancestors of all
    other nodes are in that path or in the stretch. The best place to cut is where the repeated path is
    shortest.
    """
    sequences, start, nodes = [], 0, len(depth)
    ancestors: list[int] = []
    while start < nodes:
        room = length - len(ancestors)
        stop = start + room
        if stop >= nodes:
            stop = nodes
        else:
            earliest = start + max(1, room // 2)
            candidates = depth[earliest : stop + 1][::-1]  # reversed: argmin takes the latest of equal depths
            stop = stop - int(candidates.argmin())
        sequences.append(np.concatenate([np.array(ancestors, dtype=np.int64), np.arange(start, stop)]))
        if stop < nodes:
            ancestors = [int(node) for node in sequences[-1] if last[node] > stop]
        start = stop
    return sequences
