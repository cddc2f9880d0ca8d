"""The predictions of LIQE, all derived from the joint probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from liqe_core.prompts import PromptGrid

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predictions for N images. All tensors are float32 on the CPU.

    Attributes:
        joint: (N, Q, S, D) probabilities that sum to 1 for each image; NaN for a skipped image.
        grid: the words of the axes.
        images: names of the images: file names, or e.g. ``image 3`` for an image that is not a file.
        errors: error message of each skipped image, by its position.
        left_out: files in folders that are not images, by the reason.
        notes: what a reader should know about the score of an image, by its position.
    """

    joint: Tensor
    grid: PromptGrid
    images: tuple[str, ...]
    errors: Mapping[int, str] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notes: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.joint)

    @property
    def quality(self) -> Tensor:
        """(N,) expected quality in [1, Q], which is [1, 5] with the paper's words."""
        with torch.autocast(self.joint.device.type, enabled=False):
            return expected_quality(self.joint)

    @property
    def quality_distribution(self) -> Tensor:
        """(N, Q) probability of each quality word."""
        return marginal(self.joint, "quality")

    @property
    def scene(self) -> Tensor:
        """(N, S) probability of each scene."""
        return marginal(self.joint, "scene")

    @property
    def distortion(self) -> Tensor:
        """(N, D) probability of each distortion."""
        return marginal(self.joint, "distortion")

    @property
    def quality_names(self) -> tuple[str, ...]:
        return self.grid.names("quality")

    @property
    def scene_names(self) -> tuple[str, ...]:
        return self.grid.names("scene")

    @property
    def distortion_names(self) -> tuple[str, ...]:
        return self.grid.names("distortion")

    def to_frame(self, distributions: bool = False) -> pd.DataFrame:
        """Return a table with one row per image.

        The columns are the image name, the quality, and the most probable scene and distortion with their
        probabilities, for the axes of the grid. The columns ``error`` and ``note`` exist if an image has one.

        Args:
            distributions: add the probability of each word: ``quality=bad``, ``scene=animal`` and so on.
        """
        import pandas as pd  # here, since it adds a tenth to the time of importing the model

        table = pd.DataFrame({"image": list(self.images), "quality": self.quality.numpy()})
        good = ~table["quality"].isna()
        marginals = {axis: marginal(self.joint, axis).numpy() for axis in self.grid.axes}
        for axis in self.grid.axes[1:]:
            top, names = np.nan_to_num(marginals[axis], nan=-1), self.grid.names(axis)
            likeliest = pd.Series([names[i] for i in top.argmax(axis=1)], dtype=object)
            table[axis] = likeliest.where(good, None)
            table[f"{axis}_probability"] = pd.Series(top.max(axis=1)).where(good)
        if distributions:
            words = [
                pd.DataFrame(p, columns=[f"{axis}={name}" for name in self.grid.names(axis)])
                for axis, p in marginals.items()
            ]
            table = pd.concat([table, *words], axis=1)
        for column, messages in {"error": self.errors, "note": self.notes}.items():
            if messages:
                table[column] = pd.Series([messages.get(i) for i in range(len(table))], dtype=object)
        return table


def marginal(joint: Tensor, axis: str) -> Tensor:
    """Sum a (B, Q, S, D) joint probability over the other two axes: (B, Q), (B, S) or (B, D)."""
    kept = {"quality": 1, "scene": 2, "distortion": 3}[axis]
    return joint.sum(dim=[d for d in (1, 2, 3) if d != kept])


def expected_quality(joint: Tensor) -> Tensor:
    """Compute the (B,) expected quality in [1, Q] from a (B, Q, S, D) joint probability."""
    p = marginal(joint, "quality")
    return p @ torch.arange(1, p.shape[1] + 1, dtype=p.dtype, device=p.device)
