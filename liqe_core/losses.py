"""The three fidelity losses, and two that are not of the paper. Each takes predictions and labels, and is a
scalar.

The fidelity between two Bernoulli distributions with p and g is sqrt(p g) + sqrt((1-p)(1-g)); the loss is one
minus it, with 1e-8 under each root, as in the public code, so that the gradient at zero stays finite.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-8


def quality_loss(
    quality: Tensor,
    mos: Tensor,
    dataset: Tensor,
    spread: float = 1.0,
    pair_mean: str = "sets",
    ties: str = "half",
) -> Tensor:
    """Do pairs of images rank as people ranked them? Pairs within one dataset only.

    For each pair i < j the probability that people prefer i is ``0.5 * (sign(mos_i - mos_j) + 1)``, the
    predicted one is ``Phi((q_i - q_j) / spread)``. Fidelity loss, mean over the pairs of a dataset,
    then mean over the datasets that have a pair.

    So the public code. The paper is said to have the mean over all pairs, and a probability of 1 where i is
    at least as good as j: `pair_mean` and `ties`. Its text could not be checked here.

    Args:
        quality: (B,) float, the predictions.
        mos: (B,) float, human scores, higher is better; scales may differ from set to set. NaN is an image
            without a score, which adds nothing.
        dataset: (B,) integer, which dataset each image is of.
        spread: standard deviation of the difference of two perceived qualities. 1 is what the public code
            computes; the paper's Thurstone model has sqrt(2).
        pair_mean: ``sets``, or ``pairs``: every pair weighs the same, so a large set more than a small one.
        ties: of two equal scores the first is preferred with probability one ``half``; or one, ``preferred``,
            which then depends on the order of the batch.

    Returns:
        Scalar in [0, 1]. Zero (with a gradient of zero) where no dataset has two scored images.

    Raises:
        ValueError: tensors that do not fit, or another `pair_mean` or `ties`.
    """
    if pair_mean not in ("sets", "pairs"):
        raise ValueError(f"pair_mean is {pair_mean!r}: choose sets or pairs")
    if ties not in ("half", "preferred"):
        raise ValueError(f"ties is {ties!r}: choose half or preferred")
    _refuse_shapes(1, quality=quality, mos=mos, dataset=dataset)
    i, j = torch.triu_indices(len(quality), len(quality), offset=1, device=quality.device)
    same = (dataset[i] == dataset[j]) & ~(mos[i].isnan() | mos[j].isnan())
    i, j = i[same], j[same]
    if len(i) == 0:
        return quality.sum() * 0.0
    if ties == "half":
        g = 0.5 * (torch.sign(mos[i] - mos[j]).to(quality.dtype) + 1)
    else:
        g = (mos[i] >= mos[j]).to(quality.dtype)
    p = 0.5 * (1 + torch.erf((quality[i] - quality[j]) / (math.sqrt(2) * spread)))
    loss = _binary_fidelity_loss(p, g)
    if pair_mean == "pairs":
        return loss.mean()

    # The mean over sets of the mean over pairs: each pair weighs one over its set's number of pairs.
    _, set_of_pair, pairs = torch.unique(dataset[i], return_inverse=True, return_counts=True)
    return (loss / pairs[set_of_pair]).sum() / len(pairs)


def plcc_loss(quality: Tensor, mos: Tensor, dataset: Tensor) -> Tensor:
    """Do predictions lie on a line with the scores? Within one dataset only.

    One minus Pearson's correlation of a dataset's predictions with its scores; mean over the scored images
    of the sets that have a correlation: three of them, neither scores nor predictions all alike. Not of the
    paper: beside `quality_loss`, which asks which of two is better, it asks by how much.

    Args:
        quality, mos, dataset: as `quality_loss` takes them.

    Returns:
        Scalar in [0, 2]. Zero (with a gradient of zero) where no set has a correlation.
    """
    _refuse_shapes(1, quality=quality, mos=mos, dataset=dataset)
    loss, counted = quality.sum() * 0.0, 0
    for number in dataset.unique():
        scored = (dataset == number) & ~mos.isnan()
        predicted, true = (values[scored].to(quality.dtype) for values in (quality, mos))
        predicted, true = predicted - predicted.mean(), true - true.mean()
        length, count = predicted.norm() * true.norm(), int(scored.sum())
        if count >= 3 and length > EPSILON:
            loss, counted = loss + count * (1 - (predicted * true).sum() / length), counted + count
    return loss / max(1, counted)


def regression_loss(quality: Tensor, mos: Tensor, dataset: Tensor, ends: Tensor) -> Tensor:
    """How far are predictions from the scores? The squared error, not of the paper: what plain regression
    minimises, to hold the ranking losses against.

    Args:
        quality: (B,) float, the predictions, on 1 to 5.
        mos, dataset: as `quality_loss` takes them.
        ends: (sets, 2) float, the lowest and the highest score of each dataset's scale, which are to be
            predicted as 1 and 5.

    Returns:
        Scalar from 0; mean over the scored images, zero (with a gradient of zero) where there is none.
    """
    _refuse_shapes(1, quality=quality, mos=mos, dataset=dataset)
    low, high = ends.to(quality)[dataset].unbind(dim=1)
    wanted = 1 + 4 * (mos.to(quality.dtype) - low) / (high - low)
    scored = ~wanted.isnan()
    return torch.where(scored, quality - wanted.nan_to_num(), 0).square().sum() / scored.sum().clamp(min=1)


def scene_loss(p_scene: Tensor, multi_hot: Tensor) -> Tensor:
    """Binary fidelity a scene, since an image may show several; mean over scenes, then images.

    Args:
        p_scene: (B, S) probabilities.
        multi_hot: (B, S) of 0 and 1; a row of zeros is an image without a scene label, which adds nothing.

    Returns:
        Scalar in [0, 1]; zero where no image has a label.
    """
    _refuse_shapes(2, p_scene=p_scene, multi_hot=multi_hot)
    loss = _binary_fidelity_loss(p_scene, multi_hot.to(p_scene.dtype)).mean(dim=1)
    return _mean_over_labelled(loss, multi_hot)


def distortion_loss(p_distortion: Tensor, one_hot: Tensor) -> Tensor:
    """Fidelity of two distributions over distortions, ``1 - sum_d sqrt(p_d g_d + 1e-8)``.

    Args:
        p_distortion: (B, D) probabilities.
        one_hot: (B, D), one 1 a row; a row of zeros is an image without a label, which adds nothing.

    Returns:
        Scalar, below 1; mean over the labelled images, zero where there is none.
    """
    _refuse_shapes(2, p_distortion=p_distortion, one_hot=one_hot)
    fidelity = torch.sqrt(p_distortion * one_hot.to(p_distortion.dtype) + EPSILON).sum(dim=1)
    return _mean_over_labelled(1 - fidelity, one_hot)


def _binary_fidelity_loss(p: Tensor, g: Tensor) -> Tensor:
    # A sum of probabilities may come out as 1 + 1e-7, whose complement has no root.
    return 1 - torch.sqrt(p * g + EPSILON) - torch.sqrt((1 - p).clamp(min=0) * (1 - g) + EPSILON)


def _mean_over_labelled(loss: Tensor, target: Tensor) -> Tensor:
    labelled = target.sum(dim=1) > 0
    # where, not a product: an unlabelled image's gradient must be zero even if its loss is not finite
    return torch.where(labelled, loss, 0).sum() / labelled.sum().clamp(min=1)


def _refuse_shapes(dimensions: int, **tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != dimensions for shape in shapes.values()):
        raise ValueError(f"expected tensors of one length and {dimensions} dimensions, got shapes {shapes}")
