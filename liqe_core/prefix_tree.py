"""The prefix tree of the prompts, packed into sequences that a causal transformer can take.

CLIP's text tower is causal: the state of a token depends only on the tokens before it. Prompts made from one
template share most of their beginnings, so the distinct prefixes, not the prompts, are what has to be
computed: 2,203 instead of 495 x 77 = 38,115 positions for the paper's grid. The tree is laid out in preorder
and cut into sequences in which a node's position is its depth, and it attends to its ancestors alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

#: Nodes a sequence: attention is quadratic in it, while each cut repeats the path down to the cut.
SEQUENCE_LENGTH = 256


@dataclasses.dataclass(frozen=True)
class PrefixTree:
    """The distinct prefixes of the prompts, packed into sequences.

    Attributes:
        tokens: (S, L) int64, a node's token; 0 where a sequence is shorter than L.
        depth: (S, L) int64, a node's position in its prompt, from 0.
        first, last: (S, L) int64; node j of a sequence is the ancestor of node i, or i itself, where
            ``first[j] <= first[i] < last[j]`` (preorder numbers: a subtree is an interval). A filler is
            alone.
        ends: (N,) int64, where prompt n ends, as an index into the S*L nodes.
        nodes: how many distinct prefixes there are.
    """

    tokens: Tensor
    depth: Tensor
    first: Tensor
    last: Tensor
    ends: Tensor
    nodes: int

    @classmethod
    def from_tokens(cls, tokens: Tensor, sequence_length: int = SEQUENCE_LENGTH) -> PrefixTree:
        """Build the tree of prompts that end at their highest token (CLIP's end of text).

        Args:
            tokens: (N, T) int64, padded after the end of text.
            sequence_length: most nodes in a sequence; raised where one path alone needs more.
        """
        rows = tokens.cpu().numpy()
        lengths = rows.argmax(axis=1) + 1
        n, width = rows.shape
        column = np.arange(width)
        rows = np.where(column < lengths[:, None], rows, -1)

        # Sorted, the prompts that share a prefix stand together, and reading their new prefixes row by row
        # is a preorder walk of the tree.
        order = np.lexsort(rows.T[::-1])
        rows, lengths = rows[order], lengths[order]
        shared = np.zeros(n, dtype=np.int64)  # tokens in common with the row before
        shared[1:] = np.cumprod(rows[1:] == rows[:-1], axis=1).sum(axis=1)
        shared = np.minimum(shared, lengths)
        is_new = (column >= shared[:, None]) & (column < lengths[:, None])

        number = np.cumsum(is_new).reshape(n, width) - 1  # of the latest new node; right where is_new
        path = np.where(is_new, number, -1)
        for row in range(1, n):  # a shared prefix has the nodes of the row before
            path[row, : shared[row]] = path[row - 1, : shared[row]]
        depth = np.broadcast_to(column, is_new.shape)[is_new]
        token = rows[is_new]
        nodes = len(token)

        last = np.full(nodes, nodes)  # a subtree ends where the next node that is no deeper begins
        open_nodes: list[int] = []
        for node in range(nodes):
            while open_nodes and depth[open_nodes[-1]] >= depth[node]:
                last[open_nodes.pop()] = node
            open_nodes.append(node)

        end_of = np.empty(n, dtype=np.int64)
        end_of[order] = path[np.arange(n), lengths - 1]
        sequences = _pack(depth, last, max(sequence_length, 2 * int(lengths.max())))
        # Node `nodes` fills up sequences; there its numbers lie past all nodes, each an interval of its own.
        length = max(map(len, sequences))
        packed = np.full((len(sequences), length), nodes)
        for row, sequence in enumerate(sequences):
            packed[row, : len(sequence)] = sequence
        filler, column = packed == nodes, nodes + np.arange(length)
        place = np.full(nodes + 1, -1)  # of a node that is repeated, the last
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
        """The same tree with its tensors on `device`."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "nodes"]
        return dataclasses.replace(self, **{name: getattr(self, name).to(device) for name in names})

    def attention_mask(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """(s, L, L): 0 where node i (row) may look at node j (column), minus infinity elsewhere."""
        first, last = self.first[rows], self.last[rows]
        start = first[:, :, None]
        sees = (first[:, None, :] <= start) & (start < last[:, None, :])
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))


def _pack(depth: np.ndarray, last: np.ndarray, length: int) -> list[np.ndarray]:
    """Cut the preorder walk into sequences of at most `length` nodes.

    A stretch of the walk needs, besides itself, only the ancestors of its first node: those of every other
    node lie among them or in the stretch. So each sequence is that path followed by the stretch, and the best
    place to cut is where the path to repeat is shortest.
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
            candidates = depth[earliest : stop + 1][::-1]  # of the shallowest, the latest
            stop = stop - int(candidates.argmin())
        sequences.append(np.concatenate([np.array(ancestors, dtype=np.int64), np.arange(start, stop)]))
        if stop < nodes:
            ancestors = [int(node) for node in sequences[-1] if last[node] > stop]
        start = stop
    return sequences
