"""The 25 distortions of KADID-10k, each at five levels.

    >>> distorted = distort(image, "jpeg", level=4, seed=0)   # image: (H, W, 3) uint8

Numbers, order and level parameters are those of the public KADID-10k generator: its Matlab function
``imdist_generator`` (http://database.mmsp-kn.de/kadid-10k-database.html; Lin, Hosu, Saupe, *KADID-10k*,
QoMEX 2019). The implementation is independent. Where Python has no equivalent of a Matlab tool, the docstring
names the replacement; the images are therefore similar, not identical, to KADID-10k's.

Numbers from 26 are not KADID-10k's: they change exposure or contrast by alternative curves. Each is as strong
as the KADID-10k distortion that it stands for (`Distortion.stands_for`) on the same image at that level.

A level is not always a degradation: Gaussian blur 1 (sigma 0.1), motion blur 1 (length 1), color
saturation 2 at 1 (factor 1) and mean shift 3 (by 0) do not change the image, in KADID-10k and here.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.interpolate import CubicSpline
from skimage import color, restoration

from liqe_core.files import atomic_path

LEVELS = (1, 2, 3, 4, 5)
MIN_SIDE = 64  # the patches of 16 and 32 pixels need room to move


@dataclass(frozen=True)
class Distortion:
    """A distortion: its names, its parameters for each level, and its function."""

    number: int  # 1..25, as in KADID-10k's file names I<reference>_<number>_<level>.png; from 26 ours
    name: str  # KADID-10k's name
    label: str  # the name in the label files of the public LIQE code
    group: str  # one of LIQE's eleven appearance-based distortions
    parameters: tuple[float, ...]  # for levels 1..5
    apply: Callable  # (x, parameter, rng) -> y; float32 arrays (H, W, 3) in 0..1, y may leave 0..1
    needs_color: bool  # has no effect on a grey image
    stands_for: int  # its own number, or the number of the KADID-10k distortion of the same strength


#: The distortions of KADID-10k.
DISTORTIONS: dict[int, Distortion] = {}
#: Alternative curves for some of them.
OTHER_CURVES: dict[int, Distortion] = {}


def _kadid(number: int, name: str, label: str, group: str, parameters: tuple, needs_color: bool = False):
    def register(function: Callable) -> Callable:
        DISTORTIONS[number] = Distortion(
            number, name, label, group, parameters, function, needs_color, number
        )
        return function

    return register


def find(kind: int | str) -> Distortion:
    """Return the distortion with this number or name; raise ValueError if there is none."""
    known = [*DISTORTIONS.values(), *OTHER_CURVES.values()]
    if found := [d for d in known if kind in (d.number, d.name)]:
        return found[0]
    names = ", ".join(f"{d.number} {d.name}" for d in known)
    raise ValueError(f"no distortion {kind!r}; choose one of {names}")


def distort(image: np.ndarray, kind: int | str, level: int, seed: int = 0) -> np.ndarray:
    """Return a distorted copy of an image.

    Args:
        image: (H, W, 3) uint8, RGB, at least 64 pixels per side. Grey images are rejected; stack them to
            three equal channels first.
        kind: number or name of the distortion.
        level: 1..5.
        seed: a non-negative integer. The same arguments give the same image; the random part (noise,
            directions, positions) differs between kinds and levels.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: an unknown kind or level, or an image of another shape or type.
    """
    distortion = find(kind)
    if level not in LEVELS:
        raise ValueError(f"no level {level!r} of {distortion.name}; choose one of {LEVELS}")
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an RGB image (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if min(image.shape[:2]) < MIN_SIDE:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} is under {MIN_SIDE} on a side")
    rng = np.random.default_rng((seed, distortion.number, level))
    x = image.astype(np.float32) / 255
    return _to_uint8(distortion.apply(x, distortion.parameters[level - 1], rng))


def write_distorted(path: Path, image: np.ndarray, kind: int | str, level: int, seed: int) -> None:
    """Distort an image and write it as a PNG file atomically."""
    with atomic_path(path) as part:
        Image.fromarray(distort(image, kind, level, seed)).save(part, "PNG", compress_level=1)


# ---- blur ----


@_kadid(1, "gaussian blur", "gaussian blur", "blur", (0.1, 0.5, 1, 2, 5))
def gaussian_blur(x, sigma, rng):
    return _gaussian(x, sigma)


@_kadid(2, "lens blur", "lens", "blur", (1, 2, 4, 6, 8))
def lens_blur(x, radius, rng):
    """Convolution with a disk; border pixels are weighted by the area that the disk covers."""
    fine = 16  # sub-pixels per side
    at = (np.arange((2 * radius + 1) * fine) + 0.5) / fine - radius - 0.5
    disk = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float64)
    return _convolve(x, disk.reshape(2 * radius + 1, fine, -1, fine).mean((1, 3)))


@_kadid(3, "motion blur", "motion", "blur", (1, 2, 4, 6, 10))
def motion_blur(x, length, rng):
    """Convolution with a line of this length in a random direction, antialiased by distance."""
    angle, half = rng.uniform(0, math.pi), (length - 1) / 2
    reach = math.ceil(half) + 1
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = u * math.cos(angle) + v * math.sin(angle)
    across = v * math.cos(angle) - u * math.sin(angle)
    distance = np.hypot(np.maximum(np.abs(along) - half, 0), across)
    return _convolve(x, np.maximum(1 - distance, 0))


# ---- color ----


@_kadid(4, "color diffusion", "diffusion", "color", (1, 3, 6, 8, 12), needs_color=True)
def color_diffusion(x, amount, rng):
    """The color planes of Lab, blurred and amplified."""
    lab = color.rgb2lab(x)
    lab[..., 1:] = _gaussian(lab[..., 1:], 1.5 * amount + 2) * amount
    return _lab_to_rgb(lab)


# The public LIQE code maps 'shifting' to blur: a shifted plane produces double edges, which look soft.
@_kadid(5, "color shift", "shifting", "blur", (1, 3, 6, 8, 12), needs_color=True)
def color_shift(x, amount, rng):
    """The green plane, moved in a random direction, blended in where the image has edges."""
    rows, columns = np.gradient(color.rgb2gray(x))
    edges = _gaussian(np.hypot(rows, columns)[..., None], 4)
    low, high = np.percentile(edges, (1, 99))
    blend = np.clip((edges[..., 0] - low) / max(high - low, 1e-6), 0, 1)
    direction = rng.uniform(size=2)
    dy, dx = np.round(direction / np.linalg.norm(direction) * amount).astype(int)
    padded = np.pad(x[..., 1], ((dy, 0), (dx, 0)), mode="edge")
    moved = padded[: x.shape[0], : x.shape[1]]
    y = x.copy()
    y[..., 1] = moved * blend + x[..., 1] * (1 - blend)
    return y


@_kadid(6, "color quantization", "color quantization", "quantization", (64, 48, 32, 16, 8))
def color_quantization(x, colors, rng):
    """Reduction to `colors` colors with Floyd-Steinberg dithering; Pillow's k-means replaces ``rgb2ind``."""
    image = Image.fromarray(_to_uint8(x))
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)  # 4 times faster
    palette = small.quantize(colors, method=Image.Quantize.MAXCOVERAGE, kmeans=3)
    return _from_image(image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))


# Number 7 removes color and 8 adds it, but upstream's label files use the opposite words. Both belong to the
# group 'color', so the words have no effect; we keep upstream's words to stay comparable.
@_kadid(7, "color saturation 1", "oversaturation", "color", (0.4, 0.2, 0.1, 0, -0.4), needs_color=True)
def color_saturation_1(x, factor, rng):
    """The saturation of HSV times a factor; a negative factor turns hues to their complements."""
    hsv = color.rgb2hsv(x)
    hsv[..., 1] *= factor
    return color.hsv2rgb(hsv)


@_kadid(8, "color saturation 2", "desaturation", "color", (1, 2, 3, 6, 9), needs_color=True)
def color_saturation_2(x, factor, rng):
    """The color planes of Lab times a factor."""
    lab = color.rgb2lab(x)
    lab[..., 1:] *= factor
    return _lab_to_rgb(lab)


# ---- compression ----


# The last ratio of the Matlab generator is 400; a Python port has 170. Mean opinions fall from 2.4 to 1.4
# between levels 4 and 5, which supports the stronger compression.
@_kadid(9, "jpeg2000", "jpeg2000 compression", "jpeg2000 compression", (16, 32, 45, 120, 400))
def jpeg2000(x, ratio, rng):
    return _encoded(x, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[ratio])


@_kadid(10, "jpeg", "jpeg compression", "jpeg compression", (43, 36, 24, 7, 4))
def jpeg(x, quality, rng):
    return _encoded(x, "JPEG", quality=quality)


# ---- noise; the parameters are variances for an image in 0..1, or the density of impulses ----


@_kadid(11, "white noise", "white noise", "noise", (0.001, 0.002, 0.003, 0.005, 0.01))
def white_noise(x, variance, rng):
    return x + _normal(x, variance, rng)


@_kadid(12, "white noise in color", "white with color", "noise", (0.0001, 0.0005, 0.001, 0.002, 0.003))
def white_noise_in_color(x, variance, rng):
    """White noise on the planes of YCbCr."""
    return color.ycbcr2rgb(color.rgb2ycbcr(x) + 255 * _normal(x, variance, rng))


@_kadid(13, "impulse noise", "impulse", "noise", (0.001, 0.005, 0.01, 0.02, 0.03))
def impulse_noise(x, density, rng):
    """A share `density` of the values, each channel separately, becomes 0 or 1."""
    draw = rng.uniform(size=x.shape)
    return np.where(draw < density / 2, 0, np.where(draw < density, 1, x))


@_kadid(14, "multiplicative noise", "multiplicative", "noise", (0.001, 0.005, 0.01, 0.02, 0.05))
def multiplicative_noise(x, variance, rng):
    return x * (1 + _normal(x, variance, rng))


@_kadid(15, "denoise", "white noise with denoise", "noise", (0.01, 0.03, 0.05, 0.1, 0.15))
def denoise(x, variance, rng):
    """White noise, then denoising. Non-local means replaces KADID-10k's network (DnCNN)."""
    noisy = np.clip(x + _normal(x, variance, rng), 0, 1)
    strength = 0.8 * math.sqrt(variance)
    return restoration.denoise_nl_means(noisy, patch_size=5, patch_distance=5, h=strength, channel_axis=-1)


# ---- brightness ----


@_kadid(16, "brighten", "brighten", "overexposure", (0.1, 0.2, 0.4, 0.7, 1.1))
def brighten(x, amount, rng):
    """A curve that raises the midtones, on RGB (two thirds) and on the lightness of Lab (one third)."""
    curve = CubicSpline((0, 0.5, 1), (0, 0.5 + amount / 2, 1))
    lab = color.rgb2lab(x)
    lab[..., 0] = 100 * np.clip(curve(lab[..., 0] / 100), 0, 1)
    return (2 * np.clip(curve(x), 0, 1) + _lab_to_rgb(lab)) / 3


@_kadid(17, "darken", "darken", "underexposure", (0.05, 0.1, 0.2, 0.4, 0.8))
def darken(x, amount, rng):
    return CubicSpline((0, 0.5, 1), (0, 0.5 - amount / 2, 1))(x)


@_kadid(18, "mean shift", "shifting the mean", "other", (0.15, 0.08, 0, -0.08, -0.15))
def mean_shift(x, amount, rng):
    return x + amount


# ---- spatial ----


@_kadid(19, "jitter", "jitter", "spatial", (0.05, 0.1, 0.2, 0.5, 1))
def jitter(x, amount, rng):
    """Every pixel is sampled from a slightly displaced random position, five times in a row."""
    at = np.mgrid[: x.shape[0], : x.shape[1]].astype(np.float32)
    for _ in range(5):
        places = at + amount * rng.standard_normal(at.shape, np.float32)
        planes = [ndimage.map_coordinates(x[..., c], places, order=1, mode="nearest") for c in range(3)]
        x = np.stack(planes, -1)
    return x


@_kadid(20, "non-eccentricity patch", "noneccentricity patch", "spatial", (20, 40, 60, 80, 100))
def non_eccentricity_patch(x, patches, rng):
    """Patches of 16 x 16 pixels, each copied to a position at most 8 pixels away."""
    y, side, reach = x.copy(), 16, 16
    for _ in range(patches):
        start = [rng.integers(reach, n - side - reach, endpoint=True) for n in x.shape[:2]]
        i, j = start + np.round((rng.uniform(size=2) - 0.5) * reach).astype(int)
        y[i : i + side, j : j + side] = y[start[0] : start[0] + side, start[1] : start[1] + side].copy()
    return y


@_kadid(21, "pixelate", "pixelate", "spatial", (0.01, 0.05, 0.1, 0.2, 0.5))
def pixelate(x, strength, rng):
    """Downscaling and upscaling to the original size, by nearest neighbours."""
    height, width = x.shape[:2]
    scale = 0.95 - strength**0.6
    small = Image.fromarray(_to_uint8(x)).resize(
        (math.ceil(width * scale), math.ceil(height * scale)), Image.Resampling.NEAREST
    )
    return _from_image(small.resize((width, height), Image.Resampling.NEAREST))


@_kadid(22, "quantization", "quantization", "quantization", (20, 16, 13, 10, 7))
def quantization(x, thresholds, rng):
    """Quantization of all values at Otsu's thresholds; the classes become 0, ..., 1."""
    values = _to_uint8(x)
    cuts = _otsu(np.bincount(values.ravel(), minlength=256), thresholds)
    return np.append(np.insert(cuts[1:] / 255, 0, 0), 1)[np.digitize(values, cuts)]


@_kadid(23, "color block", "color blocking", "spatial", (2, 4, 6, 8, 10))
def color_block(x, blocks, rng):
    """Squares of 32 x 32 pixels, each in a random color."""
    y, side = x.copy(), 32
    for _ in range(blocks):
        i, j = (rng.integers(0, n - side, endpoint=True) for n in x.shape[:2])
        y[i : i + side, j : j + side] = rng.uniform(size=3)
    return y


# ---- sharpness and contrast ----


@_kadid(24, "high sharpen", "sharpness", "contrast", (1, 2, 3, 6, 12))
def high_sharpen(x, amount, rng):
    """Unsharp masking of the lightness with radius 3."""
    lab = color.rgb2lab(x)
    lab[..., :1] += amount * (lab[..., :1] - _gaussian(lab[..., :1], 3))
    return _lab_to_rgb(lab)


@_kadid(25, "contrast change", "contrast", "contrast", (0.3, 0.15, 0, -0.4, -0.6))
def contrast_change(x, amount, rng):
    """A curve through (0.3, 0.25 - amount / 4) and (0.7, 0.75 + amount / 4)."""
    return CubicSpline((0, 0.3, 0.5, 0.7, 1), (0, 0.25 - amount / 4, 0.5, 0.75 + amount / 4, 1))(x)


# ---- alternative curves ----


def _gain(x: np.ndarray, strength: float) -> np.ndarray:
    """More or less light: linear values times a factor, converted back to sRGB."""
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) * 2.0**strength
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _gamma(x: np.ndarray, strength: float) -> np.ndarray:
    return x**2.0**-strength


def _factor(x: np.ndarray, strength: float) -> np.ndarray:
    """Brightness as in Pillow's ``ImageEnhance.Brightness``."""
    return x * 2.0**strength


def _from_the_mean(x: np.ndarray, strength: float) -> np.ndarray:
    """Contrast as in Pillow's ``ImageEnhance.Contrast``: away from the mean grey, or towards it."""
    mean = color.rgb2gray(x).mean()
    return mean + (x - mean) * 2.0**strength


def _other_curve(number: int, name: str, stands_for: int, curve: Callable, measured: Callable) -> None:
    """Register a curve that increases with its strength.

    Bisection finds the strength at which `measured` (the mean or deviation of the image) has the same value
    as under the KADID-10k distortion `stands_for`.
    """
    model = DISTORTIONS[stands_for]

    def apply(x: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
        small = x[::4, ::4]
        wanted = measured(np.clip(model.apply(small, amount, rng), 0, 1))
        low, high = -6.0, 6.0
        for _ in range(16):
            middle = (low + high) / 2
            weaker = measured(np.clip(curve(small, middle), 0, 1)) < wanted
            low, high = (middle, high) if weaker else (low, middle)
        return curve(x, (low + high) / 2)

    OTHER_CURVES[number] = Distortion(
        number, name, model.label, model.group, model.parameters, apply, False, stands_for
    )


_other_curve(26, "less light", 17, _gain, np.mean)
_other_curve(27, "darker by gamma", 17, _gamma, np.mean)
_other_curve(28, "darker by a factor", 17, _factor, np.mean)
_other_curve(29, "more light", 16, _gain, np.mean)
_other_curve(30, "brighter by gamma", 16, _gamma, np.mean)
_other_curve(31, "brighter by a factor", 16, _factor, np.mean)
_other_curve(32, "contrast by a factor", 25, _from_the_mean, np.std)


# ---- helpers ----


def _to_uint8(x: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)


def _from_image(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def _encoded(x: np.ndarray, form: str, **options) -> np.ndarray:
    """Encode an image with Pillow and decode it again."""
    file = io.BytesIO()
    Image.fromarray(_to_uint8(x)).save(file, form, **options)
    return _from_image(Image.open(file))


def _normal(x: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    return np.float32(math.sqrt(variance)) * rng.standard_normal(x.shape, np.float32)


def _gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    # Two sigmas on each side, as in KADID-10k's filter.
    return ndimage.gaussian_filter(x, sigma, axes=(0, 1), radius=math.ceil(2 * sigma), mode="nearest")


def _convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.convolve(x, (kernel / kernel.sum()).astype(np.float32)[..., None], mode="nearest")


def _lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    # Colors outside the RGB gamut are intended; scikit-image clips them in the same way, but warns.
    lightness = np.clip(lab[..., 0], 0, 100)
    blue_yellow = np.minimum(lab[..., 2], 200 * (lightness + 16) / 116 - 1e-3)  # Z >= 0
    return color.lab2rgb(np.stack([lightness, lab[..., 1], blue_yellow], -1))


def _otsu(histogram: np.ndarray, thresholds: int) -> np.ndarray:
    """Find the thresholds with the least within-class variance, exactly, by dynamic programming.

    scikit-image's ``threshold_multiotsu`` tries all combinations, which is too slow beyond five thresholds.
    histogram: (256,) counts. Returns ``thresholds`` ascending grey values; class k is cut[k-1] <= v < cut[k].
    """
    n = len(histogram)
    moments = np.stack([histogram * np.arange(n, dtype=float) ** p for p in range(3)])
    total = np.concatenate([np.zeros((3, 1)), moments.cumsum(1)], 1)  # (3, n+1)
    count, first, second = total[:, None, :] - total[:, :, None]  # of values i..j-1, at [i, j]
    within = second - first**2 / np.maximum(count, 1)
    within[np.tril_indices(n + 1)] = np.inf  # no empty ranges
    best, choices = within[0], []
    for _ in range(thresholds):
        cost = best[:, None] + within
        choices.append(cost.argmin(0))
        best = cost.min(0)
    cuts, end = [], n
    for choice in reversed(choices):
        end = choice[end]
        cuts.append(end)
    return np.array(cuts[::-1])
