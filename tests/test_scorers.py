"""Scorers by name."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from liqe_core.scorers import SHORT, scorer


@pytest.fixture
def picture(photograph, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(photograph[:80, :100]).save(path)
    return path


def test_a_checkpoint_by_name_and_by_path(small_liqe, picture, tmp_path):
    path = tmp_path / "model.safetensors"
    small_liqe.save(path)
    expected = float(small_liqe.score(picture).quality[0])
    assert scorer("mine", {"mine": path})(picture) == pytest.approx(expected, abs=1e-5)
    assert scorer(str(path))(picture) == pytest.approx(expected, abs=1e-5)


def test_sharpness_of_one_bright_pixel(tmp_path):
    luma = np.zeros((5, 5), np.uint8)
    luma[2, 2] = 10
    Image.fromarray(luma).save(tmp_path / "dot.png")
    # The Laplacian is -40 at the dot and 10 at its four neighbours, 0 in the other four inner pixels.
    expected = np.log1p((40**2 + 4 * 10**2) / 9)
    assert scorer("sharpness")(tmp_path / "dot.png") == pytest.approx(expected)
    Image.fromarray(luma[:2]).save(tmp_path / "flat.png")
    with pytest.raises(ValueError, match="5 x 2 pixels"):
        scorer("sharpness")(tmp_path / "flat.png")


def test_pyiqa_where_it_is_and_where_not(monkeypatch, picture):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ValueError, match="pip install pyiqa"):
        scorer("pyiqa:niqe")

    def create_metric(name):
        metric = lambda path: 4.0  # noqa: E731, an object with an attribute, as pyiqa's are
        metric.lower_better = name == "niqe"
        return metric

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    assert scorer("pyiqa:niqe")(picture) == -4, "lower is better there, higher is better here"
    assert scorer("pyiqa:musiq")(picture) == 4


def test_an_unknown_one_says_what_there_is():
    with pytest.raises(ValueError, match=r"no scorer 'blur': give one of Q, sharpness, a checkpoint"):
        scorer("blur", {"Q": "x"})


def test_short_names():
    assert list(SHORT.values()) == ["Q", "Q+S", "Q+D", "Q+S+D"]
