"""The LIQE model: from crops and a grid of prompts to a joint probability.

The joint probability of quality c, scene s and distortion d given an image x is a softmax over the cosine
similarities between the image and the prompts,

    p(c, s, d | x)  =  softmax( exp(logit_scale) * mean over crops of  <image(x_u), text(c, s, d)> ),

and the quality is the expected level under the quality marginal: q(x) = sum over c of c * p(c | x).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from liqe_core import checkpoints, towers
from liqe_core.crops import CLIP_STATISTICS, CropGeometry, Statistics, mean_over_crops, normalize
from liqe_core.prompts import PromptGrid
from liqe_core.scoring import JointModel
from liqe_core.text import PromptEncoder, tokenize
from liqe_core.towers import Architecture, Clip

#: Pixels in one forward pass of the image tower on a CPU: 24 crops of 224 x 224. With more, the tensors of a
#: ViT-B exceed the memory that the C library caches, and clearing new memory takes up to a fifth of the time.
PIXELS_AT_ONCE = 24 * 224**2


class LIQE(JointModel):
    """The joint model of quality, scene and distortion, from an open_clip model and a grid of prompts.

    Load trained LIQE weights with `from_checkpoint`, or CLIP weights with `from_clip`. Score images with
    `scoring.JointModel.score`.

    Args:
        clip: an open_clip model. Its `logit_scale` is frozen, as in the public code.
        grid: the prompts.
        architecture: the open_clip configuration of `clip`, which names the tokenizer and is saved by `save`.
        geometry: positions of the crops, or a name for `CropGeometry.named`. Default: the paper's, with the
            input size of the image tower as window.
        statistics: mean and standard deviation that normalise the crops.

    Raises:
        GridError: if a prompt is longer than the context of the text tower.
    """

    def __init__(
        self,
        clip: Clip,
        grid: PromptGrid,
        architecture: Architecture,
        geometry: CropGeometry | str | None = None,
        statistics: Statistics = CLIP_STATISTICS,
    ):
        super().__init__()
        window = towers.crop_size(clip)
        self.clip = clip
        self.clip.logit_scale.requires_grad_(False)
        if isinstance(geometry, str):
            geometry = CropGeometry.named(geometry, window=window)
        self.geometry = geometry or CropGeometry(window=window)
        if self.geometry.window != window:
            raise ValueError(f"geometry.window is {self.geometry.window}, but the image tower takes {window}")
        self.architecture, self.statistics = dict(architecture), statistics
        with torch.device("cpu"):  # independent of the caller's default device
            self.text = PromptEncoder(clip, grid, towers.tokenizer(architecture))

    @classmethod
    def from_checkpoint(
        cls,
        path: str | PathLike[str],
        *,
        grid: PromptGrid | None = None,
        geometry: CropGeometry | str | None = None,
        architecture: Architecture | str | None = None,
        device: str | torch.device = "cpu",
    ) -> LIQE:
        """Load a model from a checkpoint file, or by name.

        The file may come from the public LIQE repository, its training script, pyiqa or this project.

        Args:
            path: a file or a name: ``official`` for the authors' model of six datasets, ``official-koniq``
                for the authors' model of KonIQ-10k's scores only (both are downloaded at first use), or
                ``liqe-tiny``.
            grid: the prompts, for a file that does not store them (any but this project's). Default: the
                paper's 495 prompts. pyiqa's file `liqe_koniq` and the public `train_liqe_single.py` need
                ``PromptGrid.variant("quality")``.
            geometry: a `CropGeometry`, or ``paper``, ``standalone`` or ``pyiqa`` (see `CropGeometry.named`).
                Default: the geometry in the file, otherwise the paper's.
            architecture: see `checkpoints.read_checkpoint`.

        Raises:
            CheckpointError: if the file cannot be used or downloaded.
            GridError: if a prompt is longer than the context of the text tower.
        """
        file = checkpoints.read_checkpoint(path, architecture)
        try:
            if grid is None:
                grid = PromptGrid(**file.grid) if file.grid else PromptGrid()
            if geometry is None and file.geometry:
                geometry = CropGeometry(**file.geometry)
            clip = towers.build(file.architecture)
        except (TypeError, ValueError) as error:  # caused by the file, not by the caller's arguments
            raise checkpoints.CheckpointError(f"{path}: {error}") from None
        checkpoints.load_weights(clip, file.state_dict, path)
        name = architecture if isinstance(architecture, str) else None
        statistics = file.statistics or towers.statistics(file.architecture, name)
        return cls(clip, grid, file.architecture, geometry, statistics).to(device).float().eval()

    @classmethod
    def from_clip(
        cls,
        name: str = "ViT-B-32-quickgelu",
        pretrained: str | PathLike[str] | None = "openai",
        *,
        grid: PromptGrid | None = None,
        geometry: CropGeometry | str | None = None,
        separate_heads: bool = False,
        device: str | torch.device = "cpu",
    ) -> LIQE:
        """Build a model to start training from, with CLIP weights that are not trained on quality.

        Args:
            name: an open_clip architecture (``open_clip.list_models()``), including this project's.
            pretrained: an open_clip weights tag, a file or name as in `from_checkpoint`, ``imagenet`` (see
                `towers.imagenet`), or None for random weights.
            separate_heads: replace the prompts by one linear head per axis (see `text.separate_heads`), with
                random weights from torch's global generator.

        Raises:
            ArchitectureError: if the name or tag is unknown, or the download fails.
            CheckpointError: if the file cannot be used.
            GridError: if a prompt is longer than the context of the text tower.
        """
        config = towers.architecture(name)
        grid, statistics = grid or PromptGrid(), towers.statistics(config, name)
        if pretrained is None:
            clip = towers.build(config)
        elif checkpoints.is_weights(pretrained):
            clip = towers.build(config)
            file = checkpoints.read_checkpoint(pretrained, config)
            checkpoints.load_weights(clip, file.state_dict, pretrained)
            statistics = file.statistics or statistics
        elif pretrained == "imagenet":
            clip = towers.imagenet(config)
        else:
            tokenize(grid, towers.tokenizer(config), config["text_cfg"].get("context_length", 77))
            clip = towers.pretrained(name, fspath(pretrained))
            statistics = Statistics(tuple(clip.visual.image_mean), tuple(clip.visual.image_std))
        if separate_heads:
            config = config | {"heads": list(grid.shape)}
            towers.add_heads(clip, grid.shape, config["embed_dim"])
        return cls(clip, grid, config, geometry, statistics).to(device).float().eval()

    def save(
        self,
        path: str | PathLike[str],
        recipe: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Write a checkpoint in this project's format, which stores all arguments of `from_checkpoint`.

        Args:
            recipe: the settings and results of the training run, as JSON content.
            dtype: dtype of the weights in the file (``torch.float16`` halves its size); None: unchanged.
        """
        header = {
            "architecture": self.architecture,
            "grid": self.grid.to_dict(),
            "geometry": dataclasses.asdict(self.geometry),
            "statistics": self.statistics,
            "recipe": dict(recipe or {}),
        }
        checkpoints.write_checkpoint(path, self.clip.state_dict(), header, dtype)

    def train(self, mode: bool = True) -> LIQE:
        """Set training or evaluation mode, and discard the cached text embeddings (see `PromptEncoder`)."""
        self.text.forget()
        return super().train(mode)

    def _apply(self, *change: Any, **options: Any) -> LIQE:
        self.text.forget()  # `to`, `half` and similar methods replace the weights
        return super()._apply(*change, **options)

    def forward(self, crops: Tensor) -> Tensor:
        """Compute the joint probability of each image.

        Args:
            crops: (B, U, 3, window, window), either float and normalised by `normalize`, or uint8; or the
                (B, U, F) output of `embed`.

        Returns:
            (B, Q, S, D) float32; sums to 1 for each image.
        """
        if crops.ndim not in (3, 5):
            expected = "(B, U, 3, window, window) or (B, U, F)"
            raise ValueError(f"crops have shape {tuple(crops.shape)}, expected {expected}")
        logits = self.logits(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
        return self.joint(mean_over_crops(logits, self.geometry))

    def logits(
        self, crops: Tensor, text: Tensor | None = None, tower: torch.nn.Module | None = None
    ) -> Tensor:
        """Compute the logits of each crop, before they are averaged over the crops of an image.

        Args:
            crops: (n, 3, window, window) or (n, F), values as in `forward`.
            text: the output of `self.text()`, to reuse it for many crops.
            tower: the output of `towers.to_evaluate`, to reuse it for many crops.

        Returns:
            (n, Q*S*D) float32: exp(logit_scale) times cosine similarity.
        """
        image = F.normalize(self._encode_image(crops, tower).float(), dim=-1)
        text = self.text() if text is None else text
        # Similarities are multiplied by about 100, so errors of half precision would be visible.
        with torch.autocast(image.device.type, enabled=False):
            return self.clip.logit_scale.float().exp() * image @ text.T

    def embed(self, crops: Tensor, tower: torch.nn.Module | None = None) -> Tensor:
        """Compute the features of the frozen part of the image tower, for use in place of the crops.

        Args:
            crops: (n, 3, window, window), values as in `forward`.
            tower: as in `logits`.

        Returns:
            (n, F), the output of the trunk of `towers.trunk_and_head`, before the projection.
        """
        trunk, _ = towers.trunk_and_head(tower or self.clip.visual)
        return self._in_parts(trunk, crops)

    def _encode_image(self, crops: Tensor, tower: torch.nn.Module | None = None) -> Tensor:
        """Return the (n, E) image embedding of each crop, not normalised."""
        if crops.ndim == 2:
            return towers.trunk_and_head(self.clip.visual)[1](crops)
        return self._in_parts(tower or self.clip.encode_image, crops)

    def _in_parts(self, tower: Callable[[Tensor], Tensor], crops: Tensor) -> Tensor:
        count = len(crops)
        if crops.device.type == "cpu" and not self.training:  # a training batch norm needs the whole batch
            count = max(1, PIXELS_AT_ONCE // self.geometry.window**2)
        return torch.cat([tower(self._normalized(part)) for part in crops.split(count)])

    def _normalized(self, crops: Tensor) -> Tensor:
        return normalize(crops, self.statistics) if crops.dtype == torch.uint8 else crops

    def joint(self, logits: Tensor) -> Tensor:
        """Convert (B, Q*S*D) logits to (B, Q, S, D) probabilities."""
        return logits.softmax(dim=-1).unflatten(-1, self.grid.shape)

    def joint_of(
        self, crops: Sequence[Tensor], text: Tensor | None = None, tower: torch.nn.Module | None = None
    ) -> Tensor:
        """Compute the joint probability of images with different numbers of crops.

        Args:
            crops: n tensors (U_i, 3, window, window) on any device, uint8 or float; values as in `forward`.
            text, tower: as in `logits`.

        Returns:
            (n, Q, S, D) float32 on the model's device.
        """
        if len({(part.device, part.dtype) for part in crops}) > 1:
            crops = [self._normalized(part.to(self.device)).float() for part in crops]
        logits = self.logits(torch.cat(list(crops)).to(self.device), text, tower)
        means = [mean_over_crops(part, self.geometry) for part in logits.split([len(c) for c in crops])]
        return self.joint(torch.stack(means))
