"""What a frozen image tower said of some windows of each picture, kept on the disk and mapped into memory.

`training.embeddings` computes and keeps them; here they are only read, in place of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class KeptWindows:
    """Embeddings of the windows of pictures, in place of their pixels (`LabelledPictures.pictures`).

    Args:
        files: in order, each a ``.npy`` file of (pictures, 2, W, F) float16; the second dimension is: as it
            is, and mirrored.
        counts: (n,) how many of the W windows each picture has.
    """

    def __init__(self, files: Sequence[Path], counts: np.ndarray):
        self._chunks = [np.load(file, mmap_mode="r") for file in files]
        self._starts = np.cumsum([0, *map(len, self._chunks)])
        self.counts = counts
        if len(counts) != self._starts[-1]:
            raise ValueError(f"{len(counts)} counts for {self._starts[-1]} kept pictures")

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, i: int) -> np.ndarray:
        """(2, U, F) float16: as it is and mirrored."""
        chunk = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._chunks[chunk][i - self._starts[chunk]][:, : self.counts[i]]

    def for_training(self, i: int, count: int, rng: np.random.Generator) -> Tensor:
        """(count, F) float32: windows drawn with replacement, after a random mirroring."""
        both = self[i]
        chosen = rng.integers(both.shape[1], size=count)
        return torch.from_numpy(both[int(rng.integers(2)), chosen].astype(np.float32))

    def for_testing(self, i: int) -> Tensor:
        """(U, F) float32: every window as it is."""
        return torch.from_numpy(self[i][0].astype(np.float32))
