"""One image and a few faults to turn up by hand: what a model says of it at every position.

    >>> image = modest("photo.jpg")
    >>> seen = look(model, image, {"blur": 3, "JPEG": 2})    # as it is drawn by figures.explorer

Nothing here draws: from an image and the positions of sliders to an answer, the same for the same.
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

#: What each slider turns up: a distortion of KADID-10k, at its levels 1 to 5; 0 is none of it.
FAULTS = {"JPEG": "jpeg", "blur": "lens blur", "noise": "white noise", "darkness": "darken"}

#: The shorter side, in pixels, to which an image is shrunk before it is played with.
SHORTER_SIDE = 320


class Look(NamedTuple):
    """What a model said of an image.

    Attributes:
        image: (H, W, 3) uint8, as the windows were laid over it.
        joint: 495 probabilities (with the paper's words) that sum to 1, by ``quality``, ``scene`` and
            ``distortion``, in the order of the grid.
        windows: a row a window: ``y``, ``x`` and ``side`` in pixels, and the ``quality`` that it would get
            by itself, in [1, Q].
    """

    image: np.ndarray
    joint: pd.Series
    windows: pd.DataFrame


def modest(source: Source) -> np.ndarray:
    """An image of any size, upright and with a shorter side of `SHORTER_SIDE` at most, so that an answer
    about it takes little time.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: it cannot be read; see `images.read_image`.
    """
    image = read_image(source, orientation="apply")
    scale = SHORTER_SIDE / min(image.size)
    if scale < 1:
        width, height = (max(SHORTER_SIDE, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def degrade(image: np.ndarray, positions: Mapping[str, int]) -> np.ndarray:
    """An image with faults, in the order in which a camera adds them: too little light, a lens out of focus,
    a noisy sensor, a file saved small.

    Args:
        image: (H, W, 3) uint8, at least 64 pixels a side.
        positions: by the names of `FAULTS`, 0 (none) to 5; what is not named is 0.

    Returns:
        (H, W, 3) uint8; the same for the same arguments.

    Raises:
        ValueError: another name or position, or no such image.
    """
    if unknown := sorted(set(positions) - set(FAULTS)):
        raise ValueError(f"no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    for name, kind in reversed(FAULTS.items()):
        if position := positions.get(name, 0):
            image = distort(image, kind, position)
    return image


def look(
    model: LIQE, image: np.ndarray, positions: Mapping[str, int] | None = None, count: int | None = None
) -> Look:
    """What a model says of an image with faults, and of each of its windows by itself.

    Args:
        image: (H, W, 3) uint8.
        positions: as `degrade` takes them; None: the image as it is.
        count: look through that many windows at most, evenly spaced; None: as many as `model.score` does,
            and then the answer is the same.

    Raises:
        ValueError: as `degrade`.
        ImageError: an image smaller than a window, and a model that does not enlarge it.
    """
    geometry = model.geometry if count is None else dataclasses.replace(model.geometry, count=count)
    shown = np.asarray(resize(Image.fromarray(degrade(image, positions or {})), geometry))
    with evaluating(model), torch.no_grad():
        logits = model.logits(testing_crops(shown, geometry).to(model.device))
        joint = model.joint(mean_over_crops(logits, geometry)[None])[0].cpu()
        qualities = expected_quality(model.joint(logits)).cpu()
    words = pd.MultiIndex.from_product([model.grid.names(axis) for axis in AXES], names=AXES)
    corners = geometry.test_windows(shown.shape[1], shown.shape[0])
    windows = pd.DataFrame(corners, columns=["y", "x"]).assign(
        side=geometry.window, quality=qualities[: len(corners)].numpy()
    )
    return Look(shown, pd.Series(joint.flatten().numpy(), words, name="probability"), windows)
