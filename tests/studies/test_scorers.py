"""Scorers by name, and folders scored by them."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.data import write_image

from liqe_core.studies.scorers import available_scorers, liqe, score_folder, scorer


def test_a_checkpoint_by_name_and_by_path(small_liqe, tmp_path):
    image, path = write_image(tmp_path / "image.png"), tmp_path / "model.safetensors"
    small_liqe.save(path)
    expected = float(small_liqe.score(image).quality[0])
    assert scorer("mine", {"mine": path})(image) == pytest.approx(expected, abs=1e-5)
    assert scorer(str(path))(image) == pytest.approx(expected, abs=1e-5)


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


def test_pyiqa_installed_and_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ValueError, match="pip install pyiqa"):
        scorer("pyiqa:niqe")

    def create_metric(name):
        metric = lambda path: 4.0  # noqa: E731, an object with an attribute, as pyiqa's are
        metric.lower_better = name == "niqe"
        return metric

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    assert scorer("pyiqa:niqe")("image") == -4, "lower is better there, higher is better here"
    assert scorer("pyiqa:musiq")("image") == 4


def test_an_unavailable_metric_does_not_stop_the_others(monkeypatch):
    def create_metric(name):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    found, missing = available_scorers(["pyiqa:unique", "sharpness"])
    assert list(found) == ["sharpness"]
    assert "no network" in missing["pyiqa:unique"]
    with pytest.raises(ValueError, match=r"pyiqa:unknown: .*no network"):
        scorer("pyiqa:unknown")


def test_an_unknown_scorer_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'blur'.* Q, sharpness"):
        scorer("blur", {"Q": "x"})


@pytest.fixture
def folder(tmp_path):
    for name, level in [("b.png", 200), ("a.JPG", 40), ("sub/c.png", 120)]:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), level).save(path)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def brightness(path):
    with Image.open(path) as image:
        return np.asarray(image).mean()


def test_every_image_by_every_scorer(folder):
    table = score_folder(folder, {"brightness": brightness, "bytes_": lambda path: path.stat().st_size})
    assert list(table.index) == ["a.JPG", "b.png", "sub/c.png"]
    assert list(table.columns) == ["brightness", "bytes_", "error"]
    assert table["brightness"].tolist() == [40, 200, 120]
    assert table["bytes_"].tolist() == [(folder / name).stat().st_size for name in table.index]
    assert (table["error"] == "").all()


def test_a_bad_image_is_reported_and_does_not_lose_the_others(folder):
    (folder / "cut.jpg").write_bytes((folder / "a.JPG").read_bytes()[:30])
    table = score_folder(folder, {"brightness": brightness, "infinite": lambda path: float("inf")})
    assert np.isnan(table.at["cut.jpg", "brightness"])
    assert table.at["cut.jpg", "error"].startswith("brightness: OSError: ")
    assert table.at["cut.jpg", "error"].endswith("; infinite: the score is inf")
    assert table["brightness"].notna().sum() == 3


def test_an_interrupted_run_is_resumed(folder, tmp_path):
    cache, seen = tmp_path / "scores.csv", []

    def interrupted(path):
        if path.name == "c.png":
            raise KeyboardInterrupt
        return brightness(path)

    def counted(path):
        seen.append(path.name)
        return brightness(path) + 0.1

    with pytest.raises(KeyboardInterrupt):
        score_folder(folder, {"score": interrupted}, cache)
    table = score_folder(folder, {"score": counted}, cache)
    assert seen == ["c.png"], "only missing scores"
    assert table["score"].tolist() == [40, 200, 120.1]
    repeated = score_folder(folder, {"score": counted}, cache)
    assert seen == ["c.png"]
    pd.testing.assert_frame_equal(table, repeated)

    # A changed image, and a second scorer: only those are worked out; the first scorer's are kept.
    Image.new("L", (9, 9), 7).save(folder / "b.png")
    score_folder(folder, {"other": brightness}, cache)
    final = score_folder(folder, {"score": counted, "other": brightness}, cache)
    assert seen == ["c.png", "b.png"]
    assert final.loc["b.png", ["score", "other"]].tolist() == [7.1, 7]
    assert final.at["a.JPG", "score"] == 40


def test_failures_are_tried_again(folder, tmp_path):
    cache = tmp_path / "scores.csv"
    first = score_folder(folder, {"s": lambda path: 1 / 0}, cache)
    assert (first["error"] == "s: ZeroDivisionError: division by zero").all()
    second = score_folder(folder, {"s": brightness}, cache)
    assert second["s"].notna().all() and (second["error"] == "").all()


def test_invalid_input_is_named(folder, tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        score_folder(tmp_path / "nowhere", {"s": brightness})
    with pytest.raises(ValueError, match="no scorers"):
        score_folder(folder, {})
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no images in"):
        score_folder(empty, {"s": brightness})


def test_only_the_named_images(folder):
    table = score_folder(folder, {"brightness": brightness}, only=["sub/c.png", "a.JPG"])
    assert table["brightness"].to_dict() == {"a.JPG": 40, "sub/c.png": 120}
    with pytest.raises(ValueError, match=r"no image 'd\.png'"):
        score_folder(folder, {"brightness": brightness}, only=["d.png"])


def test_saved_scores_belong_to_the_content_of_a_checkpoint(folder, tmp_path, small_liqe):
    for seed, name in enumerate(("a.JPG", "b.png", "sub/c.png")):
        write_image(folder / name, seed=seed)
    path = tmp_path / "m.safetensors"
    small_liqe.save(path)
    cache = tmp_path / "scores.jsonl"
    first = score_folder(folder, {"L": liqe(path)}, cache)
    repeated = score_folder(folder, {"L": liqe(path)}, cache)
    assert cache.read_text().count('"file"') == len(first) and repeated.equals(first)
    with torch.no_grad():
        small_liqe.clip.visual.proj.mul_(torch.linspace(0.5, 2, small_liqe.clip.visual.proj.shape[1]))
    small_liqe.save(path)
    changed = score_folder(folder, {"L": liqe(path)}, cache)
    assert cache.read_text().count('"file"') == 2 * len(first) and not np.allclose(
        changed["L"], first["L"], atol=1e-4
    )
