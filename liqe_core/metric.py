"""LIQE as a differentiable metric for other programs: tensors in, quality out.

    metric = LIQEMetric("official", device="cuda")
    quality = metric(images)                    # (N, 3, H, W) floats in [0, 1] to (N,) in [1, 5]
    loss = -metric(restored).mean()               # higher is better
    metric.update(images); metric.compute()     # the mean over batches

The names follow the metrics of IQA-PyTorch (`lower_better`, `score_range`) and torchmetrics
(`higher_is_better`, `update`, `compute`, `reset`).
"""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liqe_core import towers
from liqe_core.crops import normalize, standardize, tensor_crops
from liqe_core.files import atomic_path
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality
from liqe_core.scoring import check_precision, evaluating, products_in, refuse_other_tensors, refuse_outside


class LIQEMetric(nn.Module):
    """The quality of image tensors, differentiable with respect to the images.

    The crops are those of `LIQE.score`. If the geometry resizes an image, torch's antialiased bilinear
    interpolation replaces Pillow's. The model is in evaluation mode during a call, and no gradient flows to
    the prompts.

    Args:
        model: a file or name as in `LIQE.from_checkpoint`, whose weights are frozen; or a LIQE model, which
            is not changed. To use it as a loss, call ``model.requires_grad_(False)`` first.
        device: device of a model loaded from a file or name; a LIQE model stays on its device.
        precision: ``float32`` or ``bfloat16``; see `scoring.products_in`.

    Attributes:
        score_range: the lowest and the highest possible quality: (1, 5) with the paper's words.
    """

    lower_better = False
    higher_is_better = True
    is_differentiable = True

    def __init__(
        self,
        model: LIQE | str | PathLike[str] = "official",
        device: str | torch.device = "cpu",
        precision: str = "float32",
    ):
        super().__init__()
        if not isinstance(model, LIQE):
            model = LIQE.from_checkpoint(model, device=device).requires_grad_(False)
        check_precision(precision, model)  # here, instead of at the first image
        self.model, self.precision = model, precision
        self.score_range = (1.0, float(model.grid.shape[0]))
        self.reset()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the quality of each image.

        Args:
            images: (N, 3, H, W) RGB floats in [0, 1], on any device.

        Returns:
            (N,) float32 in `score_range`, on the model's device.

        Raises:
            ImageError: for a value below 0, above 1 or NaN, or a side shorter than a window.
            TypeError: for another shape, dtype or type.
        """
        refuse_other_tensors(images, "the input of the metric")
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):  # symbolic tensors have no values
            refuse_outside(images, [f"image {i} of the tensor" for i in range(len(images))])
        model = self.model
        with evaluating(model), torch.autocast(model.device.type, enabled=False):  # even in autocast
            levels = tensor_crops(images.to(model.device).float(), model.geometry)
            with torch.no_grad():
                text = model.text()
            with products_in(self.precision, model.device):
                joint = model.joint_of(list(standardize(levels, model.statistics)), text)
            return expected_quality(joint)

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        """Add the qualities of images to the mean that `compute` returns."""
        self._sum += float(self(images).double().sum())
        self._count += len(images)

    def compute(self) -> Tensor:
        """Return the mean quality of all images since `reset`, a float32 scalar.

        Without any `update`, the mean is NaN and a warning is issued.
        """
        if not self._count:
            warnings.warn("compute() without update() is NaN; call update() with images first", stacklevel=2)
        mean = self._sum / self._count if self._count else torch.nan
        return torch.tensor(mean, dtype=torch.float32, device=self.model.device)

    def reset(self) -> None:
        """Start a new mean."""
        self._sum, self._count = 0.0, 0


class CropScorer(nn.Module):
    """A minimal module from crops to joint probabilities and qualities, for `export`.

    It consists of the image tower and fixed text embeddings.

    Args:
        model: the model whose weights it shares. Its device and words are fixed.
    """

    def __init__(self, model: LIQE):
        super().__init__()
        self.text: Tensor
        self.tower = towers.to_evaluate(model.clip.visual) or model.clip.visual
        self.geometry, self.statistics, self.words = model.geometry, model.statistics, model.grid.shape
        with torch.no_grad():
            self.register_buffer("text", model.clip.logit_scale.exp() * model.text())
        self.eval()

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the joint probabilities and qualities of N images.

        Args:
            crops: (N, U, 3, window, window) uint8.

        Returns:
            (N, Q, S, D) joint probabilities and (N,) qualities.
        """
        image = F.normalize(self.tower(normalize(crops.flatten(0, 1), self.statistics)), dim=-1)
        logits = (image @ self.text.T).unflatten(0, crops.shape[:2])
        # `crops.mean_over_crops` as a product, because the exporter needs a static length for a slice.
        windows = torch.ones_like(crops[0, :, 0, 0, 0], dtype=torch.float32)
        if self.geometry.overview:
            windows = (windows.cumsum(0) < windows.sum()).float()
            weights = windows / windows.sum() / 2 + (1 - windows) / 2
        else:
            weights = windows / windows.sum()
        joint = (weights @ logits).softmax(dim=-1).unflatten(-1, self.words)
        return joint, expected_quality(joint)


def export(model: LIQE, path: str | PathLike[str]) -> None:
    """Export the `CropScorer` of a model as ONNX (``.onnx``) or for ``torch.export`` (``.pt2``).

    The numbers of images and crops are dynamic. If the geometry has an overview (see `CropGeometry`), it must
    be the last of at least two crops.

    Raises:
        ValueError: if the path has another suffix.
    """
    suffix, side = Path(path).suffix, model.geometry.window
    if suffix not in (".onnx", ".pt2"):
        raise ValueError(f"{path}: unknown format; give a name that ends in .onnx, or .pt2 for torch.export")
    if suffix == ".onnx":
        import onnxscript  # noqa: F401  (needed by the exporter; raises an error that names it)
    crops = torch.zeros(2, 3, 3, side, side, dtype=torch.uint8, device=model.device)
    fewest = 2 if model.geometry.overview else 1
    free = {"crops": {0: torch.export.Dim("images"), 1: torch.export.Dim("crops", min=fewest)}}
    with atomic_path(path) as part, torch.no_grad():
        program = torch.export.export(CropScorer(model), (crops,), dynamic_shapes=free)
        if suffix == ".pt2":
            torch.export.save(program, part)
        else:
            torch.onnx.export(
                program,
                f=part,
                output_names=["joint", "quality"],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
