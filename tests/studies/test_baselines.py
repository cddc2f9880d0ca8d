"""Baselines: each one has the expected scores."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from liqe_core.agreement import scene_accuracy
from liqe_core.data.labelled import LabelledImages
from liqe_core.data.store import KeptWindows
from liqe_core.studies import baselines


def test_baselines_without_a_model(tmp_path, photograph):
    files = [tmp_path / f"{quality}.jpg" for quality in (5, 50, 95)]
    for file in files:
        Image.fromarray(photograph).save(file, quality=int(file.stem))
    sizes = baselines.file_size(files)
    assert sizes.tolist() == [file.stat().st_size for file in files] == sorted(sizes)
    assert np.ptp(baselines.constant(files)) == 0


def test_the_majority_baseline_equals_a_model_with_a_constant_word():
    rng, words = np.random.default_rng(4), np.array(["animal", "human", "plant", "night"])
    hot = rng.random((80, 4)) < [0.2, 0.7, 0.4, 0.1]
    labels = pd.Series([tuple(words[row]) for row in hot])
    always = np.tile(hot.sum(axis=0) / 80, (80, 1))
    assert baselines.commonest(labels) == pytest.approx(scene_accuracy(always, hot))
    labels = pd.Series(["blur", "noise", "blur", None, "blur"])
    assert baselines.commonest(labels) == 3 / 4 and np.isnan(baselines.commonest(labels[3:4]))


def test_the_commonest_word_is_that_of_the_part(tmp_path):
    table = pd.DataFrame({"scenes": [("a", "b"), ("a",), (), ("b",)], "session_2": ["test"] * 3 + ["train"]})
    dataset = LabelledImages("some", table.assign(distortion_group=["x", "y", "y", "x"]), [None] * 4)
    (row,) = baselines.commonest_of([dataset], 2).to_dict("records")
    assert (row["dataset"], row["session"]) == ("some", 2)
    assert (row["scene_accuracy"], row["distortion_accuracy"]) == (1.0, pytest.approx(2 / 3))


def test_brisque_finds_noise_worse_than_none(tmp_path, photograph):
    pytest.importorskip("brisque", reason="the extra `brisque` is not installed: its libsvm wants a compiler")
    image = Image.fromarray(photograph)
    noisy = photograph + np.random.default_rng(0).normal(0, 40, photograph.shape)
    image.save(tmp_path / "a.png")
    image.filter(ImageFilter.GaussianBlur(6)).save(tmp_path / "b.png")
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"no image")
    found = baselines.brisque([tmp_path / f"{name}.png" for name in "abcd"])
    assert found[0] > found[1] and found[0] > found[2] and np.isnan(found[3])


def test_ridge_finds_a_linear_rule_in_the_mean_of_the_windows(tmp_path):
    rng = np.random.default_rng(0)
    kept = rng.normal(size=(120, 2, 3, 8)).astype(np.float16)
    np.save(tmp_path / "0.npy", kept)
    counts = np.array([3, 2] * 60)
    means = np.stack([kept[i, 0, : counts[i]].astype(np.float32).mean(axis=0) for i in range(120)])
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(120)], "mos": means @ np.arange(8.0) + 3})
    table["session_1"] = ["train"] * 80 + ["test"] * 40
    dataset = LabelledImages("made", table, KeptWindows([tmp_path / "0.npy"], counts))
    (found,) = baselines.ridge(dataset, 1, [(dataset, range(120))])
    assert np.abs(found[80:] - table["mos"].to_numpy()[80:]).max() < 0.5
    with pytest.raises(TypeError, match="made"):
        baselines.ridge(LabelledImages("made", table, list(kept)), 1, [(dataset, range(120))])
