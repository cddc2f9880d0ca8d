"""LIQE as a metric within other programs: tensors in, quality out, with a gradient.

    metric = LIQEMetric("official", device="cuda")
    quality = metric(pictures)                    # (N, 3, H, W) floats in [0, 1] to (N,) in [1, 5]
    loss = -metric(restored).mean()               # higher is better
    metric.update(pictures); metric.compute()     # the mean over batches

Names are those by which IQA-PyTorch (`lower_better`, `score_range`) and torchmetrics (`higher_is_better`,
`update`, `compute`, `reset`) know their metrics.
"""

from __future__ import annotations

import warnings
from os import PathLike

import torch
from torch import Tensor, nn

from liqe_core.crops import standardize, tensor_crops
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality
from liqe_core.scoring import evaluating, products_in, refuse_other_tensors, refuse_outside


class LIQEMetric(nn.Module):
    """The quality of pictures that are tensors, differentiable with respect to their levels.

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
        products_in(precision, model.device)  # refused here, and not at the first picture
        self.model, self.precision = model, precision
        self.score_range = (1.0, float(model.grid.shape[0]))
        self.reset()

    def forward(self, pictures: Tensor) -> Tensor:
        """The quality of each picture.

        Args:
            pictures: (N, 3, H, W) floats in [0, 1], red first, on any device.

        Returns:
            (N,) float32 in `score_range`, on the model's device.

        Raises:
            ImageError: a value under 0, over 1 or NaN, or a side shorter than one window.
            TypeError: another shape or type.
        """
        refuse_other_tensors(pictures, "what the metric was given")
        refuse_outside(pictures, [f"picture {i} of the tensor" for i in range(len(pictures))])
        model = self.model
        with evaluating(model), torch.autocast(model.device.type, enabled=False):  # also in a caller's
            levels = tensor_crops(pictures.to(model.device).float(), model.geometry)
            with torch.no_grad():
                text = model.text()
            with products_in(self.precision, model.device):
                joint = model.joint_of(list(standardize(levels, model.statistics)), text)
            return expected_quality(joint)

    @torch.no_grad()
    def update(self, pictures: Tensor) -> None:
        """Count the qualities of pictures in the mean that `compute` gives."""
        self._sum += float(self(pictures).double().sum())
        self._count += len(pictures)

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
