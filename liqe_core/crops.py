"""The geometry: from an image to square crops, as the paper's code takes them.

An image is shrunk when both its sides are large, a grid of windows is laid over it, and some of the windows
are looked at: 15 evenly spaced ones in testing, 3 random ones in training. Crops are uint8 until `normalize`,
which the model calls on whatever device it is on.
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
    """Mean and standard deviation of R, G and B in [0, 1] by which an image tower's input is scaled: those of
    the images that its weights were trained on, or what their authors took for them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


#: CLIP's (openai/CLIP), and so LIQE's.
CLIP_STATISTICS = Statistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclasses.dataclass(frozen=True)
class CropGeometry:
    """Where the crops of an image lie. Lengths are pixels.

    Attributes:
        window: side of a crop; the image tower's input size.
        resize_to: an image with both sides at least this long is shrunk until the shorter one is this
            long (bilinear, antialiased); None: never.
        stride: distance between neighbouring windows.
        wide_stride: the same for an image with a side of at least `wide_from` after shrinking.
        wide_from: see `wide_stride`.
        count: how many windows an image is tested on; an image with fewer gives all it has.
        first_only: look at the top-left window alone.
        enlarge_to: an image whose shorter side is under this is enlarged until it is this long; 0: never,
            as in the public code, and an image smaller than a window has no crops.
        overview: the whole image, squeezed into one more crop, is looked at too, and weighs as much as all
            windows together (`mean_over_crops`): what is shown does not change with the size of the file.
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
            raise ValueError(f"CropGeometry.resize_to {self.resize_to} is under window {self.window}")
        if self.enlarge_to and not self.window <= self.enlarge_to <= (self.resize_to or self.enlarge_to):
            limit = f"0 (never), or from window, {self.window}, to resize_to, {self.resize_to}"
            raise ValueError(f"CropGeometry.enlarge_to is {self.enlarge_to}: give {limit}")

    @classmethod
    def named(cls, name: str, window: int = 224) -> CropGeometry:
        """``paper``: the demo and the data loaders of the public code, which produced the published numbers.
        ``standalone``: the public `LIQE.py`, whose 15 windows are all the top-left one (one is taken, the
        mean is the same). ``pyiqa``: that package's port, which never shrinks and always strides 32.

        Raises:
            ValueError: another name.
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
        """(width, height) after shrinking or enlarging; the longer side is rounded down, like torchvision."""
        short, long = sorted((width, height))
        if self.resize_to is not None and short >= self.resize_to:
            wanted = self.resize_to
        elif short < self.enlarge_to:
            wanted = self.enlarge_to
        else:
            return width, height
        long = int(wanted * long / short)
        return (wanted, long) if width <= height else (long, wanted)

    @functools.lru_cache(maxsize=4096)  # noqa: B019 (a few geometries a process, asked at every image)
    def windows(self, width: int, height: int) -> np.ndarray:
        """The top-left corners of all windows, row by row, of an image of that size (after shrinking).

        Returns:
            (n, 2) read-only int array of (y, x); n = 0 when a side is shorter than the window.
        """
        stride = self.wide_stride if max(width, height) >= self.wide_from else self.stride
        ys = np.arange(0, height - self.window + 1, stride)
        xs = np.arange(0, width - self.window + 1, stride)
        corners = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=-1).reshape(-1, 2)
        corners.flags.writeable = False
        return corners

    def test_windows(self, width: int, height: int) -> np.ndarray:
        """The (y, x) of the windows used in testing: number ``i * (n // count)`` of all n, i < count."""
        windows = self.windows(width, height)
        if self.first_only:
            return windows[:1]
        count = min(self.count, len(windows))
        return windows[np.arange(count) * (len(windows) // max(1, count))]


def resize(image: Image.Image, geometry: CropGeometry, name: str = "the image") -> Image.Image:
    """The image as the windows are laid over it: shrunk or enlarged as `geometry` says, else itself.

    Raises:
        ImageError: a long, thin image would be enlarged to more than `MAX_PIXELS`; names it.
    """
    size = _resized(*image.size, geometry, name)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def _resized(width: int, height: int, geometry: CropGeometry, name: str) -> tuple[int, int]:
    across, down = geometry.resized(width, height)
    if across * down > max(MAX_PIXELS, width * height):
        problem = f"{width} x {height} pixels would be enlarged to {across} x {down}, over {MAX_PIXELS}"
        raise ImageError(f"{name}: {problem}; cut it, or leave it out")
    return across, down


def scoring_crops(image: Image.Image, geometry: CropGeometry, name: str = "the image") -> Tensor:
    """The crops on which an image is scored.

    Args:
        image: RGB.
        name: what to call the image in an error.

    Returns:
        (U, 3, window, window) uint8: at most geometry.count windows, and the overview, where there is one.

    Raises:
        ImageError: a side is shorter than one window, or enlarging it would take too much memory.
    """
    return testing_crops(np.asarray(resize(image, geometry, name)), geometry, name)


def testing_crops(pixels: np.ndarray, geometry: CropGeometry, name: str = "the image") -> Tensor:
    """As `scoring_crops`, of the (H, W, 3) uint8 pixels of an image that was shrunk already."""
    _refuse_small(pixels.shape[1], pixels.shape[0], geometry, name)
    windows = cut(pixels, geometry.test_windows(pixels.shape[1], pixels.shape[0]), geometry.window)
    return torch.cat([windows, _overview(pixels, geometry)]) if geometry.overview else windows


def training_crops(
    pixels: np.ndarray, geometry: CropGeometry, count: int, rng: np.random.Generator, name: str
) -> Tensor:
    """Random crops: windows drawn with replacement from the grid, after a random mirroring.

    With an overview, it is the last of several crops; a single one is the overview half of the time.

    Args:
        pixels: (H, W, 3) uint8, shrunk already.
        count: U.
        name: what to call the image in an error.

    Returns:
        (U, 3, window, window) uint8.

    Raises:
        ImageError: a side is shorter than one window.
    """
    chosen = _drawn(pixels, geometry, count, rng, name)
    crops = cut(pixels, chosen, geometry.window, flip=bool(rng.integers(2)))
    if geometry.overview and (count > 1 or rng.integers(2)):
        crops[-1:] = _overview(pixels[:, ::-1] if rng.integers(2) else pixels, geometry)
    return crops


def random_crops(
    pixels: np.ndarray, geometry: CropGeometry, rng: np.random.Generator, name: str = "the image"
) -> Tensor:
    """Test crops as the public loaders of SPAQ, TID2013 and PIPAL draw them: `geometry.count` windows, with
    replacement, from a grid with `geometry.stride` whatever the image's size; not mirrored.

    Their loader of PIPAL stops at images of 288 x 288, which have nine windows, not fifteen; here
    fifteen are drawn from the nine.

    Args:
        pixels: (H, W, 3) uint8, shrunk already.

    Returns:
        (geometry.count, 3, window, window) uint8.

    Raises:
        ImageError: a side is shorter than one window.
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
    """(..., U, P) values of an image's crops to (..., P): their mean, as in the paper.

    With an overview, the last of several crops: the mean of it and of the windows' mean.
    """
    if geometry.overview and values.shape[-2] > 1:
        return (values[..., :-1, :].mean(dim=-2) + values[..., -1, :]) / 2
    return values.mean(dim=-2)


def _refuse_small(width: int, height: int, geometry: CropGeometry, name: str) -> None:
    if min(height, width) < geometry.window:
        crop = f"one crop is {geometry.window} x {geometry.window}"
        raise ImageError(f"{name}: {width} x {height} pixels, but {crop}; enlarge it, or leave it out")


def cut(pixels: np.ndarray, windows: np.ndarray, window: int, flip: bool = False) -> Tensor:
    """Copy windows out of an image.

    Args:
        pixels: (H, W, 3) uint8.
        windows: (U, 2) of (y, x).
        flip: as if the image had been mirrored left to right before the windows were laid over it.

    Returns:
        (U, 3, window, window) uint8.
    """
    crops = torch.empty(len(windows), 3, window, window, dtype=torch.uint8)
    pixels = pixels[:, ::-1] if flip else pixels  # a view: nothing is copied but the windows
    for crop, (y, x) in zip(crops.numpy(), windows, strict=True):
        crop[...] = pixels[y : y + window, x : x + window].transpose(2, 0, 1)
    return crops


def tensor_crops(images: Tensor, geometry: CropGeometry, name: str = "the images") -> Tensor:
    """The crops on which images that are tensors are scored, cut on their device; differentiable.

    Where nothing is resized the levels are those that `scoring_crops` has of the same images. Else they
    differ, since Pillow rounds to whole levels twice, and torch, which has the same weights, never.

    Args:
        images: (N, 3, H, W) levels, of any type that can be interpolated where they are to be resized.
        name: what to call them in an error.

    Returns:
        (N, U, 3, window, window) of the same type, U as in `scoring_crops`.

    Raises:
        ImageError: a side is shorter than one window, or enlarging it would take too much memory.
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
    """uint8 crops as the image tower takes them: scaled to [0, 1], less the mean, over the deviation.

    Args:
        crops: (..., 3, H, W) uint8.
        statistics: the tower's; see `towers.statistics`.

    Returns:
        (..., 3, H, W) float32 on the same device.
    """
    if crops.dtype != torch.uint8:
        raise TypeError(f"normalize takes uint8 crops, got {crops.dtype}; floats are taken as normalised")
    return standardize(crops.float().div_(255), statistics)


def standardize(levels: Tensor, statistics: Statistics = CLIP_STATISTICS) -> Tensor:
    """(..., 3, H, W) float32 levels in [0, 1], less the mean, over the deviation; differentiable."""
    mean, std = (levels.new_tensor(values).view(3, 1, 1) for values in statistics)
    return levels.sub(mean).div_(std)
