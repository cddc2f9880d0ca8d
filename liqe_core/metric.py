"""LIQE as a metric within other programs: tensors in, quality out, with a gradient.

    metric = LIQEMetric("official", device="cuda")
    quality = metric(images)                    # (N, 3, H, W) floats in [0, 1] to (N,) in [1, 5]
    loss = -metric(restored).mean()               # higher is better
    metric.update(images); metric.compute()     # the mean over batches

Names are those by which IQA-PyTorch (`lower_better`, `score_range`) and torchmetrics (`higher_is_better`,
`update`, `compute`, `reset`) know their metrics.
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
    """The quality of images that are tensors, differentiable with respect to their levels.

    Crops are cut from the tensor where `LIQE.score` cuts them from a file. Where the geometry shrinks, that
    is done by torch's antialiased bilinear interpolation in place of Pillow's.

    The model is in evaluation mode during a call, and its prompts are not differentiated.

    Args:
        model: weights as `LIQE.from_checkpoint` takes them, which are then frozen; or a LIQE, which is left
            as it is: for a loss, freeze it by ``model.requires_grad_(False)``.
        device: where weights that are read here go; a LIQE stays where it is.
        precision: ``float32`` or ``bfloat16``; see `scoring.products_in`.

    Attributes:
        score_range: the worst and the best quality that there is: (1, 5) with the paper's words.
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
        check_precision(precision, model)  # refused here, and not at the first image
        self.model, self.precision = model, precision
        self.score_range = (1.0, float(model.grid.shape[0]))
        self.reset()

    def forward(self, images: Tensor) -> Tensor:
        """The quality of each image.

        Args:
            images: (N, 3, H, W) floats in [0, 1], red first, on any device.

        Returns:
            (N,) float32 in `score_range`, on the model's device.

        Raises:
            ImageError: a value under 0, over 1 or NaN, or a side shorter than one window.
            TypeError: another shape or type.
        """
        refuse_other_tensors(images, "what the metric was given")
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):  # no values are there yet
            refuse_outside(images, [f"image {i} of the tensor" for i in range(len(images))])
        model = self.model
        with evaluating(model), torch.autocast(model.device.type, enabled=False):  # also in a caller's
            levels = tensor_crops(images.to(model.device).float(), model.geometry)
            with torch.no_grad():
                text = model.text()
            with products_in(self.precision, model.device):
                joint = model.joint_of(list(standardize(levels, model.statistics)), text)
            return expected_quality(joint)

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        """Count the qualities of images in the mean that `compute` gives."""
        self._sum += float(self(images).double().sum())
        self._count += len(images)

    def compute(self) -> Tensor:
        """Scalar, float32: the mean quality of what `update` counted since `reset`; NaN, and a warning, where
        there was nothing."""
        if not self._count:
            warnings.warn("compute() without update(): a plain call is not counted", stacklevel=2)
        mean = self._sum / self._count if self._count else torch.nan
        return torch.tensor(mean, dtype=torch.float32, device=self.model.device)

    def reset(self) -> None:
        """Begin a new mean."""
        self._sum, self._count = 0.0, 0


class CropScorer(nn.Module):
    """A model from crops to its answers, and no more: the image tower and the prompts' embeddings.

    Args:
        model: whose weights it shares; its device and words stay as they are now.
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
        """(N, U, 3, window, window) uint8 crops of N images to (N, Q, S, D) joint probabilities and (N,)
        qualities."""
        image = F.normalize(self.tower(normalize(crops.flatten(0, 1), self.statistics)), dim=-1)
        logits = (image @ self.text.T).unflatten(0, crops.shape[:2])
        # `crops.mean_over_crops`, as a product: a slice's length would have to be known to the exporter.
        windows = torch.ones_like(crops[0, :, 0, 0, 0], dtype=torch.float32)
        if self.geometry.overview:
            windows = (windows.cumsum(0) < windows.sum()).float()
            weights = windows / windows.sum() / 2 + (1 - windows) / 2
        else:
            weights = windows / windows.sum()
        joint = (weights @ logits).softmax(dim=-1).unflatten(-1, self.words)
        return joint, expected_quality(joint)


def export(model: LIQE, path: str | PathLike[str]) -> None:
    """Write `CropScorer` of a model for programs without this package: ``.onnx``, or ``.pt2`` for torch.

    The numbers of images and of crops are free. Where the model has an overview (see `CropGeometry`), it is
    the last crop, and there are at least two.

    Raises:
        ValueError: another suffix.
    """
    suffix, side = Path(path).suffix, model.geometry.window
    if suffix not in (".onnx", ".pt2"):
        raise ValueError(f"{path}: give a name that ends in .onnx, or in .pt2 for torch.export")
    if suffix == ".onnx":
        import onnxscript  # noqa: F401  (the exporter's; named when it is missing)
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
