"""Each of the 25 distortions has the effect of its name and level."""

import math

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from liqe_core import prompts
from liqe_core.data.distortions import DISTORTIONS, LEVELS, OTHER_CURVES, distort, find

# KADID-10k's own levels that leave the image as it was (see the module).
IDENTITY = {(1, 1), (3, 1), (8, 1), (18, 3)}
RANDOM = {3, 5, 11, 12, 13, 14, 15, 19, 20, 23}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """(96, 128, 3): colored structure at every scale, away from black and white."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((96, 128, 3))
    layers = [s * ndimage.gaussian_filter(noise, (s, s, 0), mode="wrap") for s in (0.4, 2, 8)]
    x = sum(layers)
    return np.round(np.clip(128 + 40 * x / x.std(), 30, 225)).astype(np.uint8)


def flat(value: int, side: int = 256) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return ((a.astype(float) - b) ** 2).mean()


def test_table_is_complete():
    assert list(DISTORTIONS) == list(range(1, 26))
    assert {d.group for d in DISTORTIONS.values()} == set(prompts.DISTORTIONS)
    assert all(len(d.parameters) == 5 for d in DISTORTIONS.values())
    assert len({d.name for d in DISTORTIONS.values()}) == len({d.label for d in DISTORTIONS.values()}) == 25
    assert [n for n, d in DISTORTIONS.items() if d.needs_color] == [4, 5, 7, 8]
    assert all(d.stands_for == number for number, d in DISTORTIONS.items())


@pytest.mark.parametrize("kind", OTHER_CURVES)
def test_another_curve_is_as_strong_as_the_distortion_it_stands_for(image, kind):
    """Brightness changes the mean, contrast the deviation."""
    other = find(kind)
    model = find(other.stands_for)
    assert (other.label, other.group) == (model.label, model.group)
    measure = np.std if model.name == "contrast change" else np.mean
    for level in LEVELS:
        ours, theirs = distort(image, kind, level), distort(image, model.number, level)
        assert measure(ours) == pytest.approx(measure(theirs), abs=3)
    assert mse(ours, theirs) > 5, "by another curve"


def test_the_other_curves_are_those_of_known_tools(image):
    """Pillow's factors, a power, and a factor of linear light, each recovered from its result."""
    photograph, x = Image.fromarray(image), image / 255

    def best(made, candidates):
        return min(mse(made, np.clip(np.asarray(candidate), 0, 255)) for candidate in candidates)

    factors = np.linspace(0.2, 1, 161)
    darker = [ImageEnhance.Brightness(photograph).enhance(factor) for factor in factors]
    assert best(distort(image, "darker by a factor", 4), darker) < 0.5
    flatter = [ImageEnhance.Contrast(photograph).enhance(factor) for factor in factors]
    assert best(distort(image, "contrast by a factor", 5), flatter) < 0.5
    powers = [255 * x**power for power in np.linspace(1, 3, 401)]
    assert best(distort(image, "darker by gamma", 4), powers) < 0.5
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    lights = [linear * factor for factor in np.linspace(0.05, 1, 400)]
    stored = [255 * np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055) for y in lights]
    assert best(distort(image, "less light", 4), stored) < 0.5


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_shape_determinism_and_change(image, kind):
    before = image.copy()
    for level in LEVELS:
        y = distort(image, kind, level, seed=3)
        assert y.shape == image.shape and y.dtype == np.uint8
        assert np.array_equal(y, distort(image, find(kind).name, level, seed=3))
        if (kind, level) in IDENTITY:
            assert mse(y, image) < 0.2  # rounding error of another color space
        else:
            assert mse(y, image) > 5, level
    assert np.array_equal(image, before), "the image given was changed"
    same = np.array_equal(distort(image, kind, 5, seed=0), distort(image, kind, 5, seed=1))
    assert same == (kind not in RANDOM)


# Not here: color shift (the direction is random), mean shift and contrast (levels go through no change),
# patches and color blocks (they may overlap).
@pytest.mark.parametrize("kind", sorted(set(DISTORTIONS) - {5, 18, 20, 23, 25}))
def test_a_higher_level_is_a_larger_difference(image, kind):
    errors = [mse(distort(image, kind, level), image) for level in LEVELS]
    assert errors == sorted(errors)


def test_levels_that_go_both_ways(image):
    means = [distort(image, "mean shift", level).mean() - image.mean() for level in LEVELS]
    np.testing.assert_allclose(means, [38.25, 20.4, 0, -20.4, -38.25], atol=0.5)
    spread = [distort(image, "contrast change", level).std() for level in LEVELS]
    assert spread == sorted(spread, reverse=True) and spread[2] > image.std() > spread[3]


def test_grey_images_show_no_color_distortion(image):
    grey = np.repeat(image[..., :1], 3, axis=2)
    for kind, d in DISTORTIONS.items():
        assert (mse(distort(grey, kind, 5), grey) < 1) == (d.needs_color and kind != 5), d.name


def test_blur_kernels_by_hand():
    point = np.zeros((65, 65, 3), np.uint8)
    point[32, 32] = 255
    # A disk of radius 8 has area 201.06: a point spreads to 255 / 201.06 in its middle, to nothing beyond 9.
    y = distort(point, "lens blur", 5)
    assert y[32, 32, 0] == y[27, 32, 0] == round(255 / (math.pi * 64)) and not y[32, 42:].any()
    # A Gaussian of sigma 2: 255 / (2 pi 4) = 10.15, a little more as the tails are cut at 2 sigma.
    assert distort(point, "gaussian blur", 4)[32, 32, 0] in (10, 11)
    # A line of 10 spreads over 10 pixels and a little beside them; blur neither adds nor takes light.
    line = distort(point, "motion blur", 5)[..., 0].astype(float)
    rows, columns = np.nonzero(line > 2)
    assert 8 <= np.hypot(np.ptp(rows), np.ptp(columns)) <= 12
    for kind in (1, 2, 3):
        assert np.array_equal(distort(flat(77), kind, 5), flat(77))


def test_noise_has_the_variance_of_the_table():
    for level, variance in enumerate(find("white noise").parameters, 1):
        noise = distort(flat(128), "white noise", level) / 255 - 128 / 255
        assert noise.var() == pytest.approx(variance, rel=0.03) and abs(noise.mean()) < 1e-3
        noise = distort(flat(128), "multiplicative noise", level) / 255 - 128 / 255
        expected = find("multiplicative noise").parameters[level - 1] * (128 / 255) ** 2
        assert noise.var() == pytest.approx(expected, rel=0.03)
    values, counts = np.unique(distort(flat(128), "impulse noise", 5), return_counts=True)
    assert values.tolist() == [0, 128, 255]
    assert (counts / counts.sum())[[0, 2]] == pytest.approx([0.015, 0.015], rel=0.1)


def test_noise_in_color_weighs_the_channels_as_the_color_space_does():
    noise = distort(flat(128), "white noise in color", 3).astype(float).var((0, 1)) / 255**2
    y, cr, cb = 255 / 219, 255 / 224 * 1.402, 255 / 224 * 1.772  # ITU-R BT.601: R = y Y + cr Cr, ...
    assert noise[0] == pytest.approx(0.001 * (y**2 + cr**2), rel=0.05)
    assert noise[2] == pytest.approx(0.001 * (y**2 + cb**2), rel=0.05)


def test_denoise_removes_noise():
    noisy = 255 * math.sqrt(find("denoise").parameters[0])
    assert distort(flat(128, 96), "denoise", 1).std() < 0.3 * noisy


def test_brightness_by_hand():
    # Half grey under the parabola through (0.5, 0.5 -+ amount / 2): darken 4 takes 0.5 to 0.3.
    y = distort(flat(128), "darken", 4)
    assert abs(int(y[0, 0, 0]) - round(255 * 0.3)) <= 1
    means = [distort(flat(100), "brighten", level).mean() for level in LEVELS]
    assert means == sorted(means) and means[0] > 100 and distort(flat(128), "brighten", 5).min() == 255
    for end in (0, 255):
        assert np.array_equal(distort(flat(end), "darken", 5), flat(end))


def test_saturation(image):
    def chroma(x):
        return np.ptp(x.astype(int), axis=2).mean()

    assert chroma(distort(image, "color saturation 1", 4)) == 0
    assert chroma(distort(image, "color saturation 2", 3)) > 1.5 * chroma(image)


def test_jpeg_leaves_blocks_of_eight(image):
    y = distort(image, "jpeg", 5)[..., 1].astype(float)
    steps = np.abs(np.diff(y, axis=1)).mean(0)  # step i lies between columns i and i + 1
    border = np.arange(len(steps)) % 8 == 7
    assert steps[border].mean() > 3 * steps[~border].mean()


def test_colors_and_grey_levels_are_counted(image):
    for level, colors in enumerate(find("color quantization").parameters, 1):
        y = distort(image, "color quantization", level)
        assert colors / 2 < len(np.unique(y.reshape(-1, 3), axis=0)) <= colors
    for level, thresholds in enumerate(find("quantization").parameters, 1):
        values = np.unique(distort(image, "quantization", level))
        assert len(values) == thresholds + 1 and values[0] == 0 and values[-1] == 255


def test_spatial_distortions_keep_to_their_places(image):
    grey = flat(128, 128)
    blocks = (distort(grey, "color block", 1) != 128).any(2)
    assert 32 * 32 <= blocks.sum() <= 2 * 32 * 32
    assert np.array_equal(distort(grey, "non-eccentricity patch", 5), grey)  # patches of the same grey
    patched = distort(image, "non-eccentricity patch", 5)
    assert set(map(tuple, patched.reshape(-1, 3))) <= set(map(tuple, image.reshape(-1, 3)))
    pixelated = distort(image, "pixelate", 5)  # 0.95 - 0.5^0.6 = 0.29 of 128 columns: 38 runs
    runs = 1 + (np.abs(np.diff(pixelated.astype(int), axis=1)).sum((0, 2)) > 0).sum()
    assert runs == math.ceil(128 * (0.95 - 0.5**0.6)) == 38


RGB = np.zeros((96, 96, 3), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "kind", "level", "word"),
    [
        *[(RGB, kind, 1, f"no distortion {kind!r}") for kind in (0, 33, "blurry", None, 1.5)],
        *[(RGB, "jpeg", level, f"no level {level!r} of jpeg") for level in (0, 6, -1, "2", 2.5)],
        (RGB[..., 0], 1, 1, "RGB"),
        (RGB[..., [0, 1, 2, 2]], 1, 1, "RGB"),
        (RGB.astype(float), 1, 1, "RGB"),
        (RGB[:63], 1, 1, "96x63"),
    ],
)
def test_invalid_images_and_levels_are_named(pixels, kind, level, word):
    with pytest.raises(ValueError, match=word):
        distort(pixels, kind, level)
