"""Geometry by hand, and against the public code's way: torchvision transforms and `unfold`."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from liqe_core.crops import (
    CLIP_STATISTICS,
    CropGeometry,
    cut,
    mean_over_crops,
    normalize,
    resize,
    scoring_crops,
    tensor_crops,
    training_crops,
)
from liqe_core.images import ImageError

PAPER = CropGeometry()


def unfolded(pixels: np.ndarray, window: int, stride: int) -> torch.Tensor:
    """All windows, row by row, as the public code takes them from a tensor."""
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    x = x.unfold(1, window, stride).unfold(2, window, stride)
    return x.permute(1, 2, 0, 3, 4).reshape(-1, 3, window, window)


@pytest.mark.parametrize(
    "size, after",
    [
        ((767, 5000), (767, 5000)),  # one side is short: left alone
        ((768, 768), (768, 768)),
        ((768, 1024), (768, 1024)),
        ((1024, 769), (1022, 768)),  # 1024 * 768 / 769 = 1022.67, down
        ((1000, 1501), (768, 1152)),  # 1152.77, down
        ((4000, 3000), (1024, 768)),
        ((5000, 800), (4800, 768)),
        ((223, 223), (224, 224)),  # from here on only with an option of the geometry
        ((144, 500), (224, 777)),  # 500 * 224 / 144 = 777.8, down
        ((500, 144), (777, 224)),
        ((1, 1), (224, 224)),
        ((224, 300), (224, 300)),  # a window fits: left alone
    ],
)
def test_resize_rule(size, after):
    enlarging = CropGeometry(enlarge_to=224)
    assert enlarging.resized(*size) == after and len(enlarging.windows(*after)) >= 1
    assert PAPER.resized(*size) == (after if min(size) >= 224 else size)
    assert CropGeometry.named("pyiqa").resized(*size) == size
    assert CropGeometry(resize_to=None, enlarge_to=900).resized(450, 600) == (900, 1200)


@pytest.mark.parametrize(
    "size, columns, rows, stride",
    [
        ((224, 224), 1, 1, 32),
        ((255, 256), 1, 2, 32),  # (256 - 224) / 32 = 1: a second row, just
        ((640, 427), 14, 7, 32),  # 416 / 32 = 13; 203 / 32 = 6.3
        ((1023, 300), 25, 3, 32),  # 799 / 32 = 24.97; 76 / 32 = 2.4
        ((1024, 768), 17, 12, 48),  # 800 / 48 = 16.7; 544 / 48 = 11.3
        ((300, 1024), 2, 17, 48),
        ((223, 900), 0, 22, 32),
    ],
)
def test_windows(size, columns, rows, stride):
    windows = PAPER.windows(*size)
    by_hand = [(stride * r, stride * c) for r in range(rows) for c in range(columns)]
    assert [tuple(w) for w in windows.tolist()] == by_hand


def test_fifteen_of_them_by_hand():
    # 14 x 7 = 98 windows, 98 // 15 = 6: numbers 0, 6, ..., 84; number 84 is row 6, column 0
    windows = PAPER.test_windows(640, 427)
    assert len(windows) == 15
    assert windows[0].tolist() == [0, 0]
    assert windows[1].tolist() == [0, 6 * 32]
    assert windows[3].tolist() == [32, 4 * 32]  # number 18 = 14 + 4
    assert windows[14].tolist() == [6 * 32, 0]
    # 14 x 2 = 28 windows, 28 // 15 = 1: the first fifteen, not fifteen spread over all
    assert PAPER.test_windows(640, 256).tolist() == PAPER.windows(640, 256)[:15].tolist()


@pytest.mark.parametrize("columns", [1, 2, 14])
def test_fewer_than_fifteen_windows_are_all_used(columns):
    width = 224 + 32 * (columns - 1)
    windows = PAPER.test_windows(width, 230)
    assert windows.tolist() == [[0, 32 * c] for c in range(columns)]
    assert scoring_crops(Image.new("RGB", (width, 230)), PAPER).shape == (columns, 3, 224, 224)


def test_named_geometries():
    assert CropGeometry.named("paper") == CropGeometry()
    standalone, pyiqa = CropGeometry.named("standalone"), CropGeometry.named("pyiqa", window=32)
    assert standalone.test_windows(1600, 1200).tolist() == [[0, 0]]
    # never shrunk, always 32: 1569 // 32 ... (1600 - 32) / 32 = 49 and (1200 - 32) / 32 = 36.5
    assert len(pyiqa.windows(1600, 1200)) == 50 * 37
    assert pyiqa.test_windows(1600, 1200)[1].tolist() == [(50 * 37 // 15) // 50 * 32, 50 * 37 // 15 % 50 * 32]
    with pytest.raises(ValueError, match="mine"):
        CropGeometry.named("mine")


@pytest.mark.parametrize(
    "field, value",
    [("window", 0), ("stride", 1.5), ("count", "many"), ("resize_to", 9), ("enlarge_to", 769)],
)
def test_impossible_geometries(field, value):
    with pytest.raises(ValueError, match=f"{field}.* {value!r}"):
        CropGeometry(**{field: value})


def test_crops_of_an_enlarged_image_are_those_of_torchvisions(image):
    small = image.resize((150, 100))
    geometry = CropGeometry(window=128, enlarge_to=160)
    enlarged = transforms.Resize(160)(small)
    assert enlarged.size == (240, 160) == geometry.resized(*small.size)
    assert np.array_equal(np.asarray(resize(small, geometry)), np.asarray(enlarged))
    every = unfolded(np.asarray(enlarged), 128, 32)
    assert torch.equal(scoring_crops(small, geometry), every) and len(every) == 8
    with pytest.raises(ImageError, match=r"small\.png: 150 x 100"):
        scoring_crops(small, CropGeometry(window=128), "small.png")


@pytest.mark.parametrize("enlarge_to, resize_to", [(224, 768), (10**20, None)])
def test_a_long_thin_image_is_not_enlarged_beyond_all_memory(enlarge_to, resize_to):
    geometry = CropGeometry(enlarge_to=enlarge_to, resize_to=resize_to)
    line = Image.new("RGB", (60_000, 1))
    with pytest.raises(ImageError, match=r"line\.png: 60000 x 1"):
        scoring_crops(line, geometry, "line.png")
    with pytest.raises(ImageError, match="89478485"):
        tensor_crops(torch.zeros(1, 3, 1, 60_000), geometry)
    wide = Image.new("RGB", (2_000, 40))  # 11,200 x 224
    assert len(scoring_crops(wide, CropGeometry(enlarge_to=224))) == 15


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (1000, 900), (900, 1300), (1100, 300), (768, 768)])
def test_crops_are_those_of_the_public_code(image, size):
    image = image.resize(size)
    shrunk = transforms.Resize(768)(image) if min(size) >= 768 else image
    pixels = np.asarray(shrunk)
    assert np.array_equal(np.asarray(resize(image, PAPER)), pixels)
    every = unfolded(pixels, 224, 48 if max(pixels.shape[:2]) >= 1024 else 32)
    expected = every[[i * (len(every) // 15) for i in range(15)]]
    assert torch.equal(scoring_crops(image, PAPER), expected)


def test_the_overview_shows_the_image_and_has_the_weight_of_all_windows(image):
    geometry, squeezed = CropGeometry(window=64, overview=True), image.resize((64, 64), Image.BILINEAR)
    crops, plain = scoring_crops(image, geometry), scoring_crops(image, CropGeometry(window=64))
    assert torch.equal(crops[:-1], plain) and len(plain) == 15
    assert np.array_equal(crops[-1].permute(1, 2, 0), np.asarray(squeezed))
    levels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    assert (tensor_crops(levels, geometry)[0] - crops).abs().max() <= 1
    values = torch.tensor([[0.0], [2.0], [5.0]])
    assert mean_over_crops(values, geometry).item() == 3 and mean_over_crops(values[:1], geometry).item() == 0
    assert mean_over_crops(values, PAPER).item() == pytest.approx(7 / 3)


def test_training_sees_the_overview_half_of_the_time_or_last(photograph):
    geometry, rng = CropGeometry(window=64, overview=True), np.random.default_rng(0)
    squeezed = torch.from_numpy(np.array(Image.fromarray(photograph).resize((64, 64), Image.BILINEAR)))
    overviews = [squeezed.permute(2, 0, 1), squeezed.flip(1).permute(2, 0, 1)]

    def which(crop):
        return next((i for i, overview in enumerate(overviews) if torch.equal(crop, overview)), None)

    single = [which(training_crops(photograph, geometry, 1, rng, "")[0]) for _ in range(200)]
    assert 70 < single.count(None) < 130 and 25 < single.count(0) < 75 and 25 < single.count(1) < 75
    several = training_crops(photograph, geometry, 3, rng, "")
    assert [which(crop) is None for crop in several] == [True, True, False]


def test_flip_is_cropping_the_mirrored_image(photograph):
    windows = np.array([[0, 0], [3, 17], [203, 416], [100, 50]])
    mirrored = np.ascontiguousarray(photograph[:, ::-1])
    assert torch.equal(cut(photograph, windows, 224, flip=True), cut(mirrored, windows, 224))
    assert not torch.equal(cut(photograph, windows, 224, flip=True), cut(photograph, windows, 224))


def test_normalize_equals_torchvision_bit_for_bit(photograph):
    every_value = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    way = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*CLIP_STATISTICS)])
    for pixels in (every_value, photograph):
        crops = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        before = crops.clone()
        assert torch.equal(normalize(crops)[0], way(Image.fromarray(pixels)))
        assert torch.equal(crops, before), "the crops themselves stay"
    with pytest.raises(TypeError, match="float32"):
        normalize(torch.zeros(1, 3, 4, 4))
