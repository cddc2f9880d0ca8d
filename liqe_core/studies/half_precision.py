"""Weights that cannot move if only half precision is kept (`Profile.precision` ``public``).

A half-precision number with 2^e <= |w| < 2^(e+1) has neighbours at a distance of 2^(e-10) (2^(e-11) below a
power of two). A step shorter than half this distance is rounded away, in any direction and however often it
is repeated. AdamW's steps are about as long as the learning rate; after a sudden gradient, a step can be
three times as long (0.1 / sqrt(0.001)).

`training.precision` defines which weights are rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from liqe_core.training.precision import half_weights, round_to_half

#: Kinds of weights in the order of a transformer, each with a part of the parameter's name.
_PARTS = {"patches": "conv", "attention, in": "in_proj", "attention, out": "out_proj"}
_PARTS |= {"MLP, in": "c_fc", "MLP, out": "c_proj"}
KINDS = (*_PARTS, "projections", "biases")

#: The exponent of the smallest normal half-precision number; below it, the spacing is constant.
LEAST_EXPONENT = -14


def half_spacing(weights: Tensor) -> Tensor:
    """Compute half the distance to the nearer half-precision neighbour: a shorter step changes nothing.

    Args:
        weights: any shape; rounded to half precision first, so that larger weights are infinite.

    Returns:
        float64 of the same shape; infinite for infinite weights.
    """
    return _HALF_SPACINGS[_bits(weights)]


def _bits(weights: Tensor) -> Tensor:
    """Return the index into `_NUMBERS` of each weight, rounded to half precision and without its sign."""
    return weights.detach().half().view(torch.int16).int() & 0x7FFF


#: All non-negative half-precision numbers, with infinity and NaN, in the order of their bits.
_NUMBERS = torch.arange(2**15, dtype=torch.int16).view(torch.float16).double()
_GAPS = _NUMBERS.diff() / 2
#: Half the distance of each number to its nearer neighbour, the smaller one; infinite from infinity on.
_HALF_SPACINGS = torch.cat([_GAPS[:1], _GAPS]).where(_NUMBERS.isfinite(), torch.inf)


def counts(weights: Tensor) -> Tensor:
    """Count the weights of each half-precision magnitude: (32768,), in the order of the bits.

    These counts are enough to compute the share of stuck weights for any step.
    """
    return torch.bincount(_bits(weights).flatten(), minlength=2**15)


def stuck(counted: Tensor, step: float) -> float:
    """Compute the share, 0 to 1, of weights that a step of this length cannot move in half precision.

    Args:
        counted: from `counts`.
        step: the positive length of the step of each weight; for AdamW about the learning rate.

    Raises:
        ValueError: there are no weights, or the step is not positive.
    """
    if not (step > 0 and counted.any()):
        raise ValueError(f"step is {step!r}, of {counted.sum()} weights: give a positive step, and weights")
    return int(counted[step < _HALF_SPACINGS].sum()) / int(counted.sum())


def counts_by_kind(clip: nn.Module) -> dict[str, Tensor]:
    """Compute `counts` for each kind of weight that the public script keeps in half precision.

    Args:
        clip: an open_clip model, before or after training.

    Returns:
        The counts by kind, in the order of `KINDS`.
    """
    found: dict[str, Tensor] = {}
    for name, value in half_weights(clip).items():
        kind = _kind(name)
        found[kind] = found.get(kind, 0) + counts(value)
    return {kind: found[kind] for kind in KINDS if kind in found}


def by_kind(counted: Mapping[str, Tensor], steps: Sequence[float]) -> pd.DataFrame:
    """Compute the share of stuck weights of each kind, for several steps.

    Args:
        counted: from `counts_by_kind`.

    Returns:
        A row for each kind: `weights` (their number), and a column for each step; see `stuck`.
    """
    rows = {
        kind: {"weights": int(sizes.sum())} | {step: stuck(sizes, step) for step in steps}
        for kind, sizes in counted.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("kind")


def by_size(counted: Mapping[str, Tensor]) -> pd.DataFrame:
    """Compute the distribution of magnitudes of the weights in half precision, without the biases.

    Args:
        counted: from `counts_by_kind`.

    Returns:
        A row for each exponent e: `exponent`, the `share` of weights with 2^e <= |w| < 2^(e+1), and
        `half_spacing`, which a step must exceed. Weights below `LEAST_EXPONENT` are counted there.
    """
    every = torch.stack([sizes for kind, sizes in counted.items() if kind != KINDS[-1]]).sum(dim=0)
    exponents = (torch.frexp(_NUMBERS).exponent - 1).clamp(min=LEAST_EXPONENT)
    exponents = exponents.where(_NUMBERS > 0, LEAST_EXPONENT)
    share = pd.Series(every.numpy() / every.sum().item()).groupby(exponents.numpy()).sum()
    share = share[share > 0]
    spacing = half_spacing(torch.tensor([1.5 * 2.0**e for e in share.index])).numpy()
    return pd.DataFrame({"exponent": share.index, "share": share.to_numpy(), "half_spacing": spacing})


def walk(weights: Tensor, step: float, count: int) -> pd.DataFrame:
    """Take `count` equal steps in float32, and in half precision with rounding after each step.

    Args:
        weights: (n,) start values; rounded to half precision first.

    Returns:
        A row for each weight: `weight`, and its shift divided by `step * count`, in `float32` and in `half`.
    """
    start = weights.detach().half().float()
    full, half = start.clone(), start.clone()
    for _ in range(count):
        full += step
        half += step
        round_to_half(half)
    moved = {name: (now - start) / (step * count) for name, now in (("float32", full), ("half", half))}
    return pd.DataFrame({"weight": start.numpy(), **{name: shift.numpy() for name, shift in moved.items()}})


def _kind(name: str) -> str:
    """Return the kind (see `KINDS`) of a weight of an open_clip model by its name."""
    if name.endswith("bias"):
        return KINDS[-1]
    return next((kind for kind, part in _PARTS.items() if part in name), "projections")
