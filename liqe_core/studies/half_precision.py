"""Which weights can move at all where only half precision is kept (`Profile.precision` ``public``).

A number of half precision with 2^e <= |w| < 2^(e+1) has neighbours 2^(e-10) away (2^(e-11) on the near side
of a power of two). A step shorter than half of that is rounded away, whatever its direction and however often
it is taken: nothing of it is kept. AdamW's steps are about as long as the learning rate; a gradient that
comes suddenly can make one three times as long (0.1 / sqrt(0.001)).

In `studies`, since it asks a question of weights; what is rounded is said by `training.precision`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from liqe_core.training.precision import half_weights, round_to_half

#: Kinds of weights, as they lie in a transformer; and a part of each one's name.
_PARTS = {"patches": "conv", "attention, in": "in_proj", "attention, out": "out_proj"}
_PARTS |= {"MLP, in": "c_fc", "MLP, out": "c_proj"}
KINDS = (*_PARTS, "projections", "biases")

#: The exponent of the smallest normal number of half precision; below it, spacing no longer shrinks.
LEAST_EXPONENT = -14


def half_spacing(weights: Tensor) -> Tensor:
    """Half the distance to the nearer neighbour in half precision: a shorter step changes nothing.

    Args:
        weights: of any shape; first rounded to half precision, beyond which they are infinite.

    Returns:
        float64, of that shape; infinite where a weight is.
    """
    return _HALF_SPACINGS[_bits(weights)]


def _bits(weights: Tensor) -> Tensor:
    """Where each weight, rounded to half precision and without its sign, stands among `_NUMBERS`."""
    return weights.detach().half().view(torch.int16).int() & 0x7FFF


#: Every number of half precision from 0 on, infinity and NaN included, in the order of their bits.
_NUMBERS = torch.arange(2**15, dtype=torch.int16).view(torch.float16).double()
_GAPS = _NUMBERS.diff() / 2
#: Of each, half the distance to the nearer neighbour, which is the smaller one; from infinity on infinite.
_HALF_SPACINGS = torch.cat([_GAPS[:1], _GAPS]).where(_NUMBERS.isfinite(), torch.inf)


def counts(weights: Tensor) -> Tensor:
    """(32768,) how many weights, rounded to half precision, have each size, in the order of the bits. What
    may move is a function of these, whatever the step, so that a model is looked at once."""
    return torch.bincount(_bits(weights).flatten(), minlength=2**15)


def stuck(counted: Tensor, step: float) -> float:
    """The share, 0 to 1, of weights that no step of this length can move under half precision.

    Args:
        counted: from `counts`.
        step: length, above 0, of what is added to each weight; of AdamW about the learning rate.

    Raises:
        ValueError: no weights, or a step that is not positive.
    """
    if not (step > 0 and counted.any()):
        raise ValueError(f"step is {step!r}, of {counted.sum()} weights: give a positive length, and weights")
    return int(counted[step < _HALF_SPACINGS].sum()) / int(counted.sum())


def counts_by_kind(clip: nn.Module) -> dict[str, Tensor]:
    """`counts` of all weights of each kind that the public script keeps in half precision, in the order of
    `KINDS`.

    Args:
        clip: an open_clip model, as training would start from or as it ended.
    """
    found: dict[str, Tensor] = {}
    for name, value in half_weights(clip).items():
        kind = _kind(name)
        found[kind] = found.get(kind, 0) + counts(value)
    return {kind: found[kind] for kind in KINDS if kind in found}


def by_kind(counted: Mapping[str, Tensor], steps: Sequence[float]) -> pd.DataFrame:
    """The share of each kind of weight that cannot move, for several lengths of a step.

    Args:
        counted: from `counts_by_kind`.

    Returns:
        A row a kind, with `weights`, how many, and for each step a column of that name; see `stuck`.
    """
    rows = {
        kind: {"weights": int(sizes.sum())} | {step: stuck(sizes, step) for step in steps}
        for kind, sizes in counted.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("kind")


def by_size(counted: Mapping[str, Tensor]) -> pd.DataFrame:
    """How large the weights are that are kept in half precision, without the biases.

    Args:
        counted: from `counts_by_kind`.

    Returns:
        A row an exponent e: `exponent`, `share` of the weights with 2^e <= |w| < 2^(e+1), and `half_spacing`
        there: what a step has to exceed. Smaller weights than `LEAST_EXPONENT` are counted there.
    """
    every = torch.stack([sizes for kind, sizes in counted.items() if kind != KINDS[-1]]).sum(dim=0)
    exponents = (torch.frexp(_NUMBERS).exponent - 1).clamp(min=LEAST_EXPONENT)
    exponents = exponents.where(_NUMBERS > 0, LEAST_EXPONENT)
    share = pd.Series(every.numpy() / every.sum().item()).groupby(exponents.numpy()).sum()
    share = share[share > 0]
    spacing = half_spacing(torch.tensor([1.5 * 2.0**e for e in share.index])).numpy()
    return pd.DataFrame({"exponent": share.index, "share": share.to_numpy(), "half_spacing": spacing})


def walk(weights: Tensor, step: float, count: int) -> pd.DataFrame:
    """So many equal steps in one direction, once kept in float32, once rounded to half precision after each.

    Args:
        weights: (n,), of which both start, rounded to half precision.

    Returns:
        A row a weight: `weight`, and by how much it moved, as a part of `step * count`, in `float32` and in
        `half`.
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
    """Which of `KINDS` a weight of an open_clip model is, by its name."""
    if name.endswith("bias"):
        return KINDS[-1]
    return next((kind for kind, part in _PARTS.items() if part in name), "projections")
