"""LIQE: from crops and a grid of prompts to a joint probability, and from it to every answer.

The joint probability of quality c, scene s and distortion d given an image x is a softmax over the cosine
similarities between the image and the prompts,

    p(c, s, d | x)  =  softmax( exp(logit_scale) * mean over crops of  <image(x_u), text(c, s, d)> ),

and quality is the expected level under its marginal: q(x) = sum over c of c * p(c | x).
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

#: Pixels that go through the image tower together on a CPU: 24 crops of 224 x 224. With more, the tensors of
#: a ViT-B outgrow what the C library keeps at hand, and up to a fifth of the time goes into clearing memory.
PIXELS_AT_ONCE = 24 * 224**2


class LIQE(JointModel):
    """The joint model over an open_clip model and a grid of prompts.

    Start from weights that were trained as LIQE with `from_checkpoint`, or from CLIP with `from_clip`; score
    images with `scoring.JointModel.score`.

    Args:
        clip: an open_clip model; its `logit_scale` is frozen, as in the public code.
        grid: the prompts.
        architecture: open_clip's configuration of `clip`; it names the tokenizer, and is kept for `save`.
        geometry: where crops lie, also by name (see `CropGeometry.named`); default: the paper's, with the
            window that the image tower takes.
        statistics: what crops are scaled by before the image tower.

    Raises:
        GridError: a prompt is longer than the text tower's context.
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
        with torch.device("cpu"):  # whatever is the caller's default
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
        """A model from a file: the public LIQE file, its training script's, pyiqa's, or ours; or by name.

        Args:
            path: a file, or ``official``, the authors' model of the six datasets, or ``official-koniq``,
                theirs of KonIQ-10k's scores alone; these are fetched at first use.
            grid: for a file that does not say (all but ours); default: the paper's 495 prompts. pyiqa's
                file `liqe_koniq` and the public `train_liqe_single.py` use ``PromptGrid.variant("quality")``.
            geometry: a `CropGeometry`, or ``paper``, ``standalone``, ``pyiqa`` (see `CropGeometry.named`);
                default: what the file says, else the paper's.
            architecture: see `checkpoints.read_checkpoint`.

        Raises:
            CheckpointError: the file cannot be used, or not be fetched; says why.
            GridError: a prompt is longer than the context.
        """
        file = checkpoints.read_checkpoint(path, architecture)
        try:
            if grid is None:
                grid = PromptGrid(**file.grid) if file.grid else PromptGrid()
            if geometry is None and file.geometry:
                geometry = CropGeometry(**file.geometry)
            clip = towers.build(file.architecture)
        except (TypeError, ValueError) as error:  # what the file says, not what the caller gave
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
        """A model to start training from: CLIP's towers before they learnt about quality.

        Args:
            name: any of open_clip's architectures (``open_clip.list_models()``), ours included.
            pretrained: a tag that open_clip has for it, weights as `from_checkpoint` takes them,
                ``imagenet`` (see `towers.imagenet`), or None for random weights.
            separate_heads: a linear head for each axis in place of the prompts (see `text.separate_heads`),
                random from torch's global generator.

        Raises:
            ArchitectureError: an unknown name or tag, or no network to download the weights.
            CheckpointError: the file cannot be used.
            GridError: a prompt is longer than the context.
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
        """Write our own format, which `from_checkpoint` reads without being told anything more.

        Args:
            recipe: how the weights were trained; anything JSON can hold.
            dtype: what the weights are rounded to in the file (``torch.float16`` halves it); None: kept.
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
        """Training or evaluation mode; the prompts' embeddings are computed anew (see `PromptEncoder`)."""
        self.text.forget()
        return super().train(mode)

    def _apply(self, *change: Any, **options: Any) -> LIQE:
        self.text.forget()  # `to`, `half` and their like put other numbers in place of the weights
        return super()._apply(*change, **options)

    def forward(self, crops: Tensor) -> Tensor:
        """The joint probability.

        Args:
            crops: (B, U, 3, window, window); float as `normalize` gives, or uint8, normalised here. Or
                (B, U, F), what `embed` gave for them.

        Returns:
            (B, Q, S, D) float32, summing to 1 for each image.
        """
        if crops.ndim not in (3, 5):
            expected = "(B, U, 3, window, window) or (B, U, F)"
            raise ValueError(f"crops have shape {tuple(crops.shape)}, expected {expected}")
        logits = self.logits(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
        return self.joint(mean_over_crops(logits, self.geometry))

    def logits(
        self, crops: Tensor, text: Tensor | None = None, tower: torch.nn.Module | None = None
    ) -> Tensor:
        """The logits of each crop by itself, before they are averaged over an image's crops.

        Args:
            crops: (n, 3, window, window) or (n, F), values as in `forward`.
            text: what `self.text()` gave, where it was called once for many crops.
            tower: what `towers.to_evaluate` made of the image tower, where it was called once for many crops.

        Returns:
            (n, Q*S*D) float32: exp(logit_scale) times cosine similarity.
        """
        image = F.normalize(self._encode_image(crops, tower).float(), dim=-1)
        text = self.text() if text is None else text
        # A similarity is multiplied by about 100: half precision would show in the answer.
        with torch.autocast(image.device.type, enabled=False):
            return self.clip.logit_scale.float().exp() * image @ text.T

    def embed(self, crops: Tensor, tower: torch.nn.Module | None = None) -> Tensor:
        """(n, F): what the part of the image tower that can be frozen says of each crop, before the
        projection of `towers.trunk_and_head`; `logits` takes it in place of the crops.

        Args:
            crops: (n, 3, window, window), values as in `forward`.
            tower: as in `logits`.
        """
        trunk, _ = towers.trunk_and_head(tower or self.clip.visual)
        return self._in_parts(trunk, crops)

    def _encode_image(self, crops: Tensor, tower: torch.nn.Module | None = None) -> Tensor:
        """(n, E): what the image tower says of each crop, not normalised."""
        if crops.ndim == 2:
            return towers.trunk_and_head(self.clip.visual)[1](crops)
        return self._in_parts(tower or self.clip.encode_image, crops)

    def _in_parts(self, tower: Callable[[Tensor], Tensor], crops: Tensor) -> Tensor:
        count = len(crops)
        if crops.device.type == "cpu" and not self.training:  # a batch norm that learns needs them together
            count = max(1, PIXELS_AT_ONCE // self.geometry.window**2)
        return torch.cat([tower(self._normalized(part)) for part in crops.split(count)])

    def _normalized(self, crops: Tensor) -> Tensor:
        return normalize(crops, self.statistics) if crops.dtype == torch.uint8 else crops

    def joint(self, logits: Tensor) -> Tensor:
        """(B, Q*S*D) logits to (B, Q, S, D) probabilities."""
        return logits.softmax(dim=-1).unflatten(-1, self.grid.shape)

    def joint_of(
        self, crops: Sequence[Tensor], text: Tensor | None = None, tower: torch.nn.Module | None = None
    ) -> Tensor:
        """The joint probability of images that may differ in their number of crops.

        Args:
            crops: n of (U_i, 3, window, window), on any devices, uint8 or float each; values as in `forward`.
            text, tower: as in `logits`.

        Returns:
            (n, Q, S, D) float32 on the model's device.
        """
        if len({(part.device, part.dtype) for part in crops}) > 1:
            crops = [self._normalized(part.to(self.device)).float() for part in crops]
        logits = self.logits(torch.cat(list(crops)).to(self.device), text, tower)
        means = [mean_over_crops(part, self.geometry) for part in logits.split([len(c) for c in crops])]
        return self.joint(torch.stack(means))
