"""Answers of a model for one image with distortions of adjustable level.

    >>> image = modest("photo.jpg")
    >>> seen = look(model, image, {"blur": 3, "JPEG": 2})    # figures.explorer draws this

The answers are deterministic. This module draws nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from liqe_core.crops import mean_over_crops, resize, testing_crops
from liqe_core.data.distortions import distort
from liqe_core.images import Source, read_image
from liqe_core.prediction import expected_quality
from liqe_core.prompts import AXES
from liqe_core.scoring import evaluating

if TYPE_CHECKING:
    from liqe_core.model import LIQE

#: The KADID-10k distortion of each slider, at levels 1 to 5; 0 means no distortion.
FAULTS = {"JPEG": "jpeg", "blur": "lens blur", "noise": "white noise", "darkness": "darken"}

#: Images are shrunk to this shorter side, in pixels.
SHORTER_SIDE = 320


class Look(NamedTuple):
    """A model's answer for an image.

    Attributes:
        image: (H, W, 3) uint8, at the size from which the windows are cut.
        joint: 495 probabilities (with the paper's words) that sum to 1, by ``quality``, ``scene`` and
            ``distortion``, in the order of the grid.
        windows: a row for each window: ``y``, ``x`` and ``side`` in pixels, and the ``quality`` of the window
            alone, in [1, Q].
    """

    image: np.ndarray
    joint: pd.Series
    windows: pd.DataFrame


def modest(source: Source) -> np.ndarray:
    """Read an image upright and shrink its shorter side to at most `SHORTER_SIDE`, for fast answers.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: the image cannot be read; see `images.read_image`.
    """
    image = read_image(source, orientation="apply")
    scale = SHORTER_SIDE / min(image.size)
    if scale < 1:
        width, height = (max(SHORTER_SIDE, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def degrade(image: np.ndarray, positions: Mapping[str, int]) -> np.ndarray:
    """Distort an image, in the order of a camera: darkness, blur, noise, JPEG compression.

    Args:
        image: (H, W, 3) uint8, at least 64 pixels on each side.
        positions: levels 0 (none) to 5 by the names of `FAULTS`; a missing name means 0.

    Returns:
        (H, W, 3) uint8; equal arguments give equal results.

    Raises:
        ValueError: a name or level is unknown, or the image has another shape.
    """
    if unknown := sorted(set(positions) - set(FAULTS)):
        raise ValueError(f"unknown fault {', '.join(unknown)}: choose from {', '.join(FAULTS)}")
    for name, kind in reversed(FAULTS.items()):
        if position := positions.get(name, 0):
            image = distort(image, kind, position)
    return image


def look(
    model: LIQE, image: np.ndarray, positions: Mapping[str, int] | None = None, count: int | None = None
) -> Look:
    """Predict a distorted image, and each of its windows alone.

    Args:
        image: (H, W, 3) uint8.
        positions: as in `degrade`; None: no distortion.
        count: the largest number of windows, evenly spaced; None: the windows of `model.score`, with the same
            result.

    Raises:
        ValueError: as in `degrade`.
        ImageError: the image is smaller than a window and the model does not enlarge it.
    """
    geometry = model.geometry if count is None else dataclasses.replace(model.geometry, count=count)
    resized = np.asarray(resize(Image.fromarray(degrade(image, positions or {})), geometry))
    with evaluating(model), torch.no_grad():
        logits = model.logits(testing_crops(resized, geometry).to(model.device))
        joint = model.joint(mean_over_crops(logits, geometry)[None])[0].cpu()
        qualities = expected_quality(model.joint(logits)).cpu()
    words = pd.MultiIndex.from_product([model.grid.names(axis) for axis in AXES], names=AXES)
    corners = geometry.test_windows(resized.shape[1], resized.shape[0])
    windows = pd.DataFrame(corners, columns=["y", "x"]).assign(
        side=geometry.window, quality=qualities[: len(corners)].numpy()
    )
    return Look(resized, pd.Series(joint.flatten().numpy(), words, name="probability"), windows)
