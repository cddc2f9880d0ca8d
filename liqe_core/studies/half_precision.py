"""Which weights can move at all where only half precision is kept (`Profile.precision` ``public``).

A number of half precision with 2^e <= |w| < 2^(e+1) has neighbours 2^(e-10) away (2^(e-11) on the near side
of a power of two). A step shorter than half of that is rounded away, whatever its direction and however often
it is taken: nothing of it is kept. AdamW's steps are about as long as the learning rate; a gradient that
comes suddenly can make one three times as long (0.1 / sqrt(0.001)).

In `studies`, since it asks a question of weights; what is rounded is said by `training.precision`.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from liqe_core.training.precision import half_weights

#: The exponent of the smallest normal number of half precision; below it, spacing no longer shrinks.
LEAST_EXPONENT = -14


def half_spacing(weights: Tensor) -> Tensor:
    """Half the distance to the nearer neighbour in half precision: a shorter step changes nothing.

    Args:
        weights: of any shape; first rounded to half precision, beyond which they are infinite.

    Returns:
        float64, of that shape; infinite where a weight is.
    """
    size = weights.detach().half().double().abs()
    mantissa, exponent = torch.frexp(size)  # size = mantissa * 2^exponent, mantissa in [1/2, 1)
    exponent = (exponent - 1).clamp(min=LEAST_EXPONENT)
    exponent = exponent.where(size > 0, LEAST_EXPONENT)
    near = (mantissa == 0.5) & (exponent > LEAST_EXPONENT)  # towards zero the spacing is half as wide
    spacing = torch.ldexp(torch.ones_like(size), exponent - 11 - near.int())
    return spacing.where(size.isfinite(), torch.inf)


def stuck(weights: Tensor, step: float) -> float:
    """The share, 0 to 1, of weights that no step of this length can move under half precision.

    Args:
        step: length, above 0, of what is added to each weight; of AdamW about the learning rate.

    Raises:
        ValueError: no weights, or a step that is not positive.
    """
    if not step > 0:
        raise ValueError(f"step is {step!r}; give a positive length, such as the learning rate")
    if weights.numel() == 0:
        raise ValueError("there are no weights to count")
    return float((half_spacing(weights) > step).double().mean())


def stuck_shares(clip: nn.Module, step: float) -> pd.DataFrame:
    """A row a matrix, convolution or bias that the public script keeps in half precision.

    Args:
        clip: an open_clip model, as training would start from or as it ended.
        step: see `stuck`.

    Returns:
        `name`, `tower` (``image`` or ``text``), `weights` (how many), `spread` (standard deviation, NaN for
        one) and `stuck`, the share that cannot move.
    """
    rows = [
        {
            "name": name,
            "tower": "image" if name.startswith("visual.") else "text",
            "weights": value.numel(),
            "spread": float(value.detach().double().std()) if value.numel() > 1 else float("nan"),
            "stuck": stuck(value, step),
        }
        for name, value in half_weights(clip).items()
    ]
    return pd.DataFrame(rows, columns=["name", "tower", "weights", "spread", "stuck"])
