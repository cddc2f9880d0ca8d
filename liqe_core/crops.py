"""Crop geometry: from an image to square crops, as in the paper's code.

An image is shrunk if both sides are large, and a grid of windows is laid over it. Some windows are cut out as
crops: 15 evenly spaced ones in testing, 3 random ones in training. Crops are uint8 until the model calls
`normalize` on its own device.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from liqe_core.images import MAX_PIXELS, ImageError


class Statistics(NamedTuple):
    """Mean and standard deviation of R, G and B, which normalise the input of an image tower.

    The values are in [0, 1] and match the training of the tower's weights.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


#: The statistics of openai/CLIP, and therefore of LIQE.
CLIP_STATISTICS = Statistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclasses.dataclass(frozen=True)
class CropGeometry:
    """The positions of an image's crops. Lengths are in pixels.

    Attributes:
        window: side of a window, equal to the input size of the image tower.
        resize_to: an image with both sides at least this long is shrunk until the shorter side is this long
            (bilinear, antialiased); None: never.
        stride: distance between neighbouring windows.
        wide_stride: the stride for an image with a side of at least `wide_from` after shrinking.
        wide_from: see `wide_stride`.
        count: number of windows in testing. An image with fewer windows uses all of them.
        first_only: use only the top-left window.
        enlarge_to: an image with a shorter side below this is enlarged until that side is this long; 0:
            never, as in the public code. An image smaller than a window then has no crops.
        overview: add the whole image, resized to one more crop. It weighs as much as all windows together
            (`mean_over_crops`). Its content does not depend on the size of the file.
    """

    window: int = 224
    resize_to: int | None = 768
    stride: int = 32
    wide_stride: int = 48
    wide_from: int = 1024
    count: int = 15
    first_only: bool = False
    enlarge_to: int = 0
    overview: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), int(bool(field.default))
            whole = isinstance(value, (int, np.integer)) and value >= least
            if not whole and (field.name, value) != ("resize_to", None):
                raise ValueError(f"CropGeometry.{field.name} is {value!r}: give a whole number from {least}")
        if self.resize_to is not None and self.resize_to < self.window:
            raise ValueError(f"CropGeometry.resize_to is {self.resize_to}: give {self.window} or more")
        if self.enlarge_to and not self.window <= self.enlarge_to <= (self.resize_to or self.enlarge_to):
            limit = f"0 (never), or window ({self.window}) to resize_to ({self.resize_to})"
            raise ValueError(f"CropGeometry.enlarge_to is {self.enlarge_to}: give {limit}")

    @classmethod
    def named(cls, name: str, window: int = 224) -> CropGeometry:
        """Return the geometry of a public implementation.

        Args:
            name: ``paper`` for the demo and data loaders of the public code, which produced the published
                numbers; ``standalone`` for the public `LIQE.py`, whose 15 windows are all the top-left one
                (used once here, since the mean is the same); ``pyiqa`` for the port in that package, which
                never shrinks and always uses stride 32.
            window: see `CropGeometry`.

        Raises:
            ValueError: if the name is unknown.
        """
        settings: dict[str, dict[str, Any]] = {
            "paper": {},
            "standalone": {"resize_to": None, "wide_stride": 32, "first_only": True},
            "pyiqa": {"resize_to": None, "wide_stride": 32},
        }
        if name not in settings:
            raise ValueError(f"unknown crop geometry {name!r}: choose one of {', '.join(settings)}")
        return cls(window=window, **settings[name])

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) after resizing; the longer side is rounded down, like in torchvision."""
        short, long = sorted((width, height))
        if self.resize_to is not None and short >= self.resize_to:
            wanted = self.resize_to
        elif short < self.enlarge_to:
            wanted = self.enlarge_to
        else:
            return width, height
        long = int(wanted * long / short)
        return (wanted, long) if width <= height else (long, wanted)

    @functools.lru_cache(maxsize=4096)  # noqa: B019 (few geometries exist, and each image calls this)
    def windows(self, width: int, height: int) -> np.ndarray:
        """Return the top-left corners of all windows of an image of this size (after resizing), row by row.

        Returns:
            (n, 2) read-only int array of (y, x); n = 0 if a side is shorter than the window.
        """
        stride = self.wide_stride if max(width, height) >= self.wide_from else self.stride
        ys = np.arange(0, height - self.window + 1, stride)
        xs = np.arange(0, width - self.window + 1, stride)
        corners = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=-1).reshape(-1, 2)
        corners.flags.writeable = False
        return corners

    def test_windows(self, width: int, height: int) -> np.ndarray:
        """Return the (y, x) of the testing windows: number ``i * (n // count)`` of all n, i < count."""
        windows = self.windows(width, height)
        if self.first_only:
            return windows[:1]
        count = min(self.count, len(windows))
        return windows[np.arange(count) * (len(windows) // max(1, count))]


def resize(image: Image.Image, geometry: CropGeometry, name: str = "the image") -> Image.Image:
    """Shrink or enlarge an image as `geometry` requires; return the image itself if its size fits.

    Raises:
        ImageError: if a long, thin image would be enlarged to more than `MAX_PIXELS`.
    """
    size = _resized(*image.size, geometry, name)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def _resized(width: int, height: int, geometry: CropGeometry, name: str) -> tuple[int, int]:
    across, down = geometry.resized(width, height)
    if across * down > max(MAX_PIXELS, width * height):
        problem = f"{width} x {height} would be enlarged to {across} x {down}, over {MAX_PIXELS} pixels"
        raise ImageError(f"{name}: {problem}; crop the image, or leave it out")
    return across, down


def scoring_crops(image: Image.Image, geometry: CropGeometry, name: str = "the image") -> Tensor:
    """Return the crops for scoring an image.

    Args:
        image: of mode RGB.
        name: name of the image in error messages.

    Returns:
        (U, 3, window, window) uint8: at most geometry.count windows, then the overview if the geometry has
        one.

    Raises:
        ImageError: if a side is shorter than a window, or enlarging the image would exceed `MAX_PIXELS`.
    """
    return testing_crops(np.asarray(resize(image, geometry, name)), geometry, name)


def testing_crops(pixels: np.ndarray, geometry: CropGeometry, name: str = "the image") -> Tensor:
    """Return the crops like `scoring_crops`, for (H, W, 3) uint8 pixels of an already resized image."""
    _refuse_small(pixels.shape[1], pixels.shape[0], geometry, name)
    windows = cut(pixels, geometry.test_windows(pixels.shape[1], pixels.shape[0]), geometry.window)
    return torch.cat([windows, _overview(pixels, geometry)]) if geometry.overview else windows


def training_crops(
    pixels: np.ndarray, geometry: CropGeometry, count: int, rng: np.random.Generator, name: str
) -> Tensor:
    """Draw random windows with replacement from the grid, after a random horizontal flip.

    If the geometry has an overview, it replaces the last of several crops. A single crop is the overview
    with probability one half.

    Args:
        pixels: (H, W, 3) uint8, already resized.
        count: U, the number of crops.
        name: name of the image in error messages.

    Returns:
        (U, 3, window, window) uint8.

    Raises:
        ImageError: if a side is shorter than a window.
    """
    chosen = _drawn(pixels, geometry, count, rng, name)
    crops = cut(pixels, chosen, geometry.window, flip=bool(rng.integers(2)))
    if geometry.overview and (count > 1 or rng.integers(2)):
        crops[-1:] = _overview(pixels[:, ::-1] if rng.integers(2) else pixels, geometry)
    return crops


def random_crops(
    pixels: np.ndarray, geometry: CropGeometry, rng: np.random.Generator, name: str = "the image"
) -> Tensor:
    """Draw random testing windows like the public loaders of SPAQ, TID2013 and PIPAL.

    `geometry.count` windows are drawn with replacement from a grid with `geometry.stride` for every image
    size, without a flip. The public PIPAL loader fails on images of 288 x 288, which have 9 windows instead
    of 15. Here, 15 windows are drawn from the 9.

    Args:
        pixels: (H, W, 3) uint8, already resized.

    Returns:
        (geometry.count, 3, window, window) uint8.

    Raises:
        ImageError: if a side is shorter than a window.
    """
    dense = dataclasses.replace(geometry, wide_stride=geometry.stride)
    return cut(pixels, _drawn(pixels, dense, geometry.count, rng, name), geometry.window)


def _drawn(
    pixels: np.ndarray, geometry: CropGeometry, count: int, rng: np.random.Generator, name: str
) -> np.ndarray:
    _refuse_small(pixels.shape[1], pixels.shape[0], geometry, name)
    windows = geometry.windows(pixels.shape[1], pixels.shape[0])
    return windows[rng.integers(len(windows), size=count)]


def _overview(pixels: np.ndarray, geometry: CropGeometry) -> Tensor:
    squeezed = Image.fromarray(pixels).resize([geometry.window] * 2, Image.Resampling.BILINEAR)
    return cut(np.asarray(squeezed), np.zeros((1, 2), int), geometry.window)


def mean_over_crops(values: Tensor, geometry: CropGeometry) -> Tensor:
    """Average the (..., U, P) values of an image's crops to (..., P), as in the paper.

    If the geometry has an overview (the last of several crops), the result is the mean of the overview and
    the mean over the windows.
    """
    if geometry.overview and values.shape[-2] > 1:
        return (values[..., :-1, :].mean(dim=-2) + values[..., -1, :]) / 2
    return values.mean(dim=-2)


def _refuse_small(width: int, height: int, geometry: CropGeometry, name: str) -> None:
    if min(height, width) < geometry.window:
        crop = f"smaller than a crop of {geometry.window} x {geometry.window}"
        raise ImageError(f"{name}: {width} x {height} pixels, {crop}; enlarge it, or leave it out")


def cut(pixels: np.ndarray, windows: np.ndarray, window: int, flip: bool = False) -> Tensor:
    """Copy windows out of an image.

    Args:
        pixels: (H, W, 3) uint8.
        windows: (U, 2) of (y, x).
        flip: whether to flip the image horizontally before the windows are laid over it.

    Returns:
        (U, 3, window, window) uint8.
    """
    crops = torch.empty(len(windows), 3, window, window, dtype=torch.uint8)
    pixels = pixels[:, ::-1] if flip else pixels  # a view, so that only the windows are copied
    for crop, (y, x) in zip(crops.numpy(), windows, strict=True):
        crop[...] = pixels[y : y + window, x : x + window].transpose(2, 0, 1)
    return crops


def tensor_crops(images: Tensor, geometry: CropGeometry, name: str = "the images") -> Tensor:
    """Return the crops for scoring a batch of image tensors, on their device; differentiable.

    Without resizing, the levels equal those of `scoring_crops`. With resizing they differ slightly: Pillow
    uses the same interpolation weights as torch, but rounds to integers twice.

    Args:
        images: (N, 3, H, W) levels, of a dtype that torch can interpolate if they have to be resized.
        name: name of the images in error messages.

    Returns:
        (N, U, 3, window, window) of the same dtype, U as in `scoring_crops`.

    Raises:
        ImageError: if a side is shorter than a window, or enlarging the images would exceed `MAX_PIXELS`.
    """
    height, width = images.shape[2:]
    size = _resized(width, height, geometry, name)
    if size != (width, height):
        width, height = size
        images = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
    _refuse_small(width, height, geometry, name)
    side = geometry.window
    windows = geometry.test_windows(width, height).tolist()
    crops = [images[..., y : y + side, x : x + side] for y, x in windows]
    if geometry.overview:
        crops.append(F.interpolate(images, (side, side), mode="bilinear", antialias=True))
    return torch.stack(crops, dim=1)


def normalize(crops: Tensor, statistics: Statistics = CLIP_STATISTICS) -> Tensor:
    """Normalise uint8 crops for the image tower: scale to [0, 1], subtract the mean, divide by the std.

    Args:
        crops: (..., 3, H, W) uint8.
        statistics: of the image tower; see `towers.statistics`.

    Returns:
        (..., 3, H, W) float32 on the same device.
    """
    if crops.dtype != torch.uint8:
        raise TypeError(f"crops are {crops.dtype}: give uint8; the model takes float crops as normalised")
    return standardize(crops.float().div_(255), statistics)


def standardize(levels: Tensor, statistics: Statistics = CLIP_STATISTICS) -> Tensor:
    """Subtract the mean from (..., 3, H, W) float32 levels in [0, 1], divide by the std; differentiable."""
    mean, std = (levels.new_tensor(values).view(3, 1, 1) for values in statistics)
    return levels.sub(mean).div_(std)
