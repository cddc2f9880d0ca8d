"""Scoring lists of pictures: order, batches, one bad file among good ones, and what is left behind."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from liqe_core import LIQE, PromptGrid
from liqe_core.crops import normalize, scoring_crops
from liqe_core.images import PictureError


@pytest.fixture
def small_liqe():
    """Twelve prompts are enough here."""
    grid = PromptGrid(quality=["bad", "fair", "good"], scene=["sea", "sky"], distortion=["blur", "noise"])
    torch.manual_seed(1)
    return LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid)


@pytest.fixture
def folder(picture, tmp_path):
    """Pictures of several sizes, from fifteen windows and more down to one."""
    for i, size in enumerate([(640, 427), (100, 80), (32, 32), (900, 800), (40, 300)]):
        picture.resize(size).save(tmp_path / f"{i}.png")
    return tmp_path


def one_by_one(model, path):
    crops = normalize(scoring_crops(Image.open(path), model.geometry))
    with torch.no_grad():
        return model(crops[None])[0]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batches_do_not_matter(small_liqe, folder, batch_size):
    files = sorted(folder.iterdir())
    prediction = small_liqe.score(files, batch_size=batch_size)
    expected = torch.stack([one_by_one(small_liqe, file) for file in files])
    torch.testing.assert_close(prediction.joint, expected, atol=1e-6, rtol=0)
    assert prediction.images == tuple(map(str, files)) and prediction.errors == {}


def test_one_picture_in_any_form(small_liqe, folder):
    path = folder / "0.png"
    expected = one_by_one(small_liqe, path)
    with Image.open(path) as opened:
        copy = opened.copy()
        forms = [path, str(path), opened, copy, [path], iter([path]), (p for p in [str(path)])]
        for form in forms:
            prediction = small_liqe.score(form)
            assert len(prediction) == 1
            torch.testing.assert_close(prediction.joint[0], expected, atol=1e-6, rtol=0)
    assert small_liqe.score(copy).images == ("picture 0",)


def test_the_same_image_many_times(small_liqe, folder):
    with Image.open(folder / "3.png") as opened:
        prediction = small_liqe.score([opened] * 12, batch_size=3)
    assert (prediction.joint == prediction.joint[0]).all(dim=(1, 2, 3)).sum() >= 9  # a last bit may differ
    torch.testing.assert_close(prediction.joint, prediction.joint[:1].expand_as(prediction.joint))


def test_no_pictures(small_liqe):
    prediction = small_liqe.score([])
    assert prediction.joint.shape == (0, 3, 2, 2) and len(prediction.to_frame()) == 0


def test_a_bad_file_does_not_lose_the_others(small_liqe, folder):
    (folder / "text.jpg").write_text("no picture")
    Image.new("RGB", (31, 90)).save(folder / "small.png")
    files = [folder / n for n in ("0.png", "text.jpg", "missing.jpg", "1.png", "small.png", "2.png")]
    prediction = small_liqe.score(files, on_error="skip", batch_size=2)
    assert sorted(prediction.errors) == [1, 2, 4]
    assert "text.jpg: not a picture" in prediction.errors[1]
    assert "missing.jpg: no such file" in prediction.errors[2]
    assert "small.png: 31 x 90 pixels, but one crop is 32 x 32" in prediction.errors[4]
    for i in (0, 3, 5):
        torch.testing.assert_close(prediction.joint[i], one_by_one(small_liqe, files[i]), atol=1e-6, rtol=0)
    assert prediction.joint[[1, 2, 4]].isnan().all() and prediction.quality[[1, 2, 4]].isnan().all()
    assert prediction.to_frame().error.notna().tolist() == [False, True, True, False, True, False]


def test_all_bad(small_liqe, tmp_path):
    prediction = small_liqe.score([tmp_path, tmp_path / "x"], on_error="skip")
    assert prediction.quality.isnan().all() and len(prediction.errors) == 2


def test_raise_stops_and_leaves_no_thread(small_liqe, folder):
    (folder / "text.jpg").write_text("no picture")
    before = set(threading.enumerate())
    with pytest.raises(PictureError, match=r"text\.jpg"):
        small_liqe.score([folder / "0.png", folder / "text.jpg", *[folder / "3.png"] * 40], batch_size=1)
    assert set(threading.enumerate()) <= before
    assert len(small_liqe.score([folder / "0.png"] * 3)) == 3
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("size", [(1, 1), (31, 400)])
def test_under_one_window_names_the_file_and_the_size(small_liqe, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "tiny.png")
    with pytest.raises(PictureError, match=rf"tiny\.png: {size[0]} x {size[1]} pixels"):
        small_liqe.score(tmp_path / "tiny.png")


@pytest.mark.parametrize(
    "images, says",
    [
        (3, "picture 0 is int"),
        (None, "picture 0 is NoneType"),
        (np.zeros((40, 40, 3), np.uint8), "picture 0 is ndarray"),
        (["a.png", torch.zeros(3, 40, 40)], "picture 1 is Tensor"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_no_picture_at_all_is_a_mistake_of_the_caller(small_liqe, images, says, on_error):
    with pytest.raises(TypeError, match=f"{says}: give a path or a Pillow image"):
        small_liqe.score(images, on_error=on_error)


def test_misspelled_options(small_liqe):
    with pytest.raises(ValueError, match="on_error is 'ignore': choose raise or skip"):
        small_liqe.score([], on_error="ignore")
    with pytest.raises(ValueError, match="batch_size is 0"):
        small_liqe.score([], batch_size=0)


@pytest.mark.parametrize("fails", [False, True])
def test_every_submodule_keeps_its_mode(small_liqe, folder, fails):
    small_liqe.train()
    small_liqe.clip.visual.eval()  # as one freezes batch norms
    before = [module.training for module in small_liqe.modules()]
    if fails:
        with pytest.raises(PictureError):
            small_liqe.score(folder)
    else:
        small_liqe.score(folder / "2.png")
    assert [module.training for module in small_liqe.modules()] == before
    assert len(set(before)) == 2


def test_progress_bar(small_liqe, folder, capsys):
    small_liqe.score(sorted(folder.iterdir()), progress=True)
    assert "5/5" in capsys.readouterr().err
    small_liqe.score(sorted(folder.iterdir()))
    assert capsys.readouterr().err == ""
