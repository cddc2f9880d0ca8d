"""The three fidelity losses of the paper, and two further losses.

Each loss maps predictions and labels to a scalar. The fidelity of two Bernoulli distributions with parameters
p and g is sqrt(p g) + sqrt((1-p)(1-g)). The loss is one minus the fidelity. As in the public code, 1e-8 is
added under each root, so that the gradient at zero is finite.
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
    """Fidelity loss of the ranking of image pairs within each dataset.

    For each pair i < j, the probability that people prefer i is ``0.5 * (sign(mos_i - mos_j) + 1)`` and the
    predicted probability is ``Phi((q_i - q_j) / spread)``. The fidelity loss is averaged over the pairs of
    each dataset, and then over the datasets with at least one pair.

    The defaults follow the public code. The paper reportedly uses the mean over all pairs, and probability 1
    if i is at least as good as j (see `pair_mean` and `ties`). We could not check its text.

    Args:
        quality: (B,) float, the predictions.
        mos: (B,) float, the human scores; higher is better. Scales may differ between datasets. Images
            without a score are NaN and do not contribute.
        dataset: (B,) integer, the dataset of each image.
        spread: standard deviation of the difference of two perceived qualities: 1 in the public code, sqrt(2)
            in the paper's Thurstone model.
        pair_mean: ``sets``: mean over the datasets of the mean over pairs; ``pairs``: mean over all pairs, so
            that a large dataset weighs more than a small one.
        ties: probability that the first of two equal scores is preferred: 0.5 (``half``) or 1
            (``preferred``, where the loss depends on the order of the batch).

    Returns:
        Scalar in [0, 1]. Zero, with zero gradient, if no dataset has two scored images.

    Raises:
        ValueError: if the shapes do not match, or `pair_mean` or `ties` is unknown.
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

    # Mean over datasets of the mean over pairs: the weight of a pair is one over the pairs of its dataset.
    _, set_of_pair, pairs = torch.unique(dataset[i], return_inverse=True, return_counts=True)
    return (loss / pairs[set_of_pair]).sum() / len(pairs)


def plcc_loss(quality: Tensor, mos: Tensor, dataset: Tensor) -> Tensor:
    """One minus Pearson's correlation of predictions and scores within each dataset.

    The loss is averaged over the scored images of the datasets with a defined correlation: at least three
    scored images, and neither constant scores nor constant predictions. It is not in the paper. It adds the
    size of score differences to `quality_loss`, which only uses their sign.

    Args:
        quality, mos, dataset: as in `quality_loss`.

    Returns:
        Scalar in [0, 2]. Zero, with zero gradient, if no dataset has a defined correlation.
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
    """Squared error of the predictions, as a regression baseline for the ranking losses; not in the paper.

    Args:
        quality: (B,) float, the predictions in [1, 5].
        mos, dataset: as in `quality_loss`.
        ends: (datasets, 2) float, the lowest and the highest score on the scale of each dataset. They are
            mapped to the targets 1 and 5.

    Returns:
        Non-negative scalar: the mean over the scored images. Zero, with zero gradient, if there are none.
    """
    _refuse_shapes(1, quality=quality, mos=mos, dataset=dataset)
    low, high = ends.to(quality)[dataset].unbind(dim=1)
    wanted = 1 + 4 * (mos.to(quality.dtype) - low) / (high - low)
    scored = ~wanted.isnan()
    return torch.where(scored, quality - wanted.nan_to_num(), 0).square().sum() / scored.sum().clamp(min=1)


def scene_loss(p_scene: Tensor, multi_hot: Tensor) -> Tensor:
    """Binary fidelity loss for each scene, since an image may have several; mean over scenes, then images.

    Args:
        p_scene: (B, S) probabilities.
        multi_hot: (B, S) of 0 and 1. An image without a scene label is a row of zeros and does not
            contribute.

    Returns:
        Scalar in [0, 1]; zero if no image has a label.
    """
    _refuse_shapes(2, p_scene=p_scene, multi_hot=multi_hot)
    loss = _binary_fidelity_loss(p_scene, multi_hot.to(p_scene.dtype)).mean(dim=1)
    return _mean_over_labelled(loss, multi_hot)


def distortion_loss(p_distortion: Tensor, one_hot: Tensor) -> Tensor:
    """Fidelity loss between two distributions over distortions, ``1 - sum_d sqrt(p_d g_d + 1e-8)``.

    Args:
        p_distortion: (B, D) probabilities.
        one_hot: (B, D), one 1 per row. An image without a label is a row of zeros and does not contribute.

    Returns:
        Scalar below 1: the mean over the labelled images; zero if there are none.
    """
    _refuse_shapes(2, p_distortion=p_distortion, one_hot=one_hot)
    fidelity = torch.sqrt(p_distortion * one_hot.to(p_distortion.dtype) + EPSILON).sum(dim=1)
    return _mean_over_labelled(1 - fidelity, one_hot)


def _binary_fidelity_loss(p: Tensor, g: Tensor) -> Tensor:
    # Rounding can make a sum of probabilities 1 + 1e-7, and the root of its complement NaN.
    return 1 - torch.sqrt(p * g + EPSILON) - torch.sqrt((1 - p).clamp(min=0) * (1 - g) + EPSILON)


def _mean_over_labelled(loss: Tensor, target: Tensor) -> Tensor:
    labelled = target.sum(dim=1) > 0
    # torch.where instead of a product: the gradient of an unlabelled image is zero even for a NaN loss.
    return torch.where(labelled, loss, 0).sum() / labelled.sum().clamp(min=1)


def _refuse_shapes(dimensions: int, **tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != dimensions for shape in shapes.values()):
        raise ValueError(f"expected tensors of equal shape with {dimensions} dimensions, got {shapes}")
