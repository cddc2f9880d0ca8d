"""The embedded data set: whole, reproducible, and no photograph on two sides."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.data import MIRROR, needs_mirror

from liqe_core.data import distortions, mini
from liqe_core.data.labels import COLUMNS
from liqe_core.data.splits import SESSION_COLUMNS

SMALL = mini.Selection(("coffee", "camera", "china"), (2, 5), (1, 7, 10), (96, 72), ("whole",))


def read_labels(folder):
    labels = pd.read_csv(folder / "labels.csv")
    return labels.assign(scenes=[tuple(names.split(";")) for names in labels["scenes"]])


IN_A_PROCESS = "from liqe_core.data import mini; mini.build({!r}, mini.{}, progress=False)"


def build(root, **changes):
    return mini.build(root, dataclasses.replace(SMALL, **changes), progress=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini")
    return root, *build(root)


def test_table(small):
    _, folder, labels = small
    assert tuple(labels.columns) == COLUMNS
    # Three photographs by three distortions by two levels, less saturation of the grey one.
    assert len(labels) == 3 * 3 * 2 - 2 and labels.image.is_unique
    assert not ((labels.reference == "camera") & (labels.distortion_group == "color")).any()
    row = labels.set_index("image").loc["images/china_10_05.png"]
    assert row.distortion == row.distortion_group == "jpeg compression"
    assert row.mos == pytest.approx(1.35, abs=0.01) and row.scenes == ("cityscape", "landscape")
    assert set(labels.dataset) == {"mini"} and labels.mos.between(1, 5).all()
    pd.testing.assert_frame_equal(read_labels(folder), labels)


def test_pictures_are_the_distorted_photographs(small):
    _, folder, labels = small
    for name in labels.image:
        with Image.open(folder / name) as image:
            assert image.size == (96, 72) and image.mode == "RGB"
    clean = mini.prepare(mini.open_photograph("china"), (96, 72))
    blurred = distortions.distort(clean, "gaussian blur", 5)
    assert np.array_equal(np.asarray(Image.open(folder / "images/china_01_05.png")), blurred)


def test_built_once(small):
    root, folder, labels = small
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")}
    second_folder, table = build(root)
    assert second_folder == folder and {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")} == stamps
    pd.testing.assert_frame_equal(table, labels)


def test_a_lost_picture_is_made_again(small):
    root, folder, labels = small
    path = folder / labels.image[0]
    before = path.read_bytes()
    path.unlink()
    build(root)
    assert path.read_bytes() == before


def test_content_decides_the_folder(small, tmp_path, monkeypatch):
    _, folder, _ = small
    same, _ = build(tmp_path)
    assert same.name == folder.name
    assert [p.read_bytes() for p in sorted(same.rglob("*.*"))] == [
        p.read_bytes() for p in sorted(folder.rglob("*.*"))
    ]
    assert build(tmp_path, levels=[2])[0].name != folder.name
    monkeypatch.setattr(mini, "VERSION", 0)
    assert build(tmp_path)[0].name != folder.name


def test_the_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path))
    folder, _ = build(None)
    assert folder.parent == tmp_path / "mini"


def test_killed_build_goes_on(tmp_path):
    changes = {"levels": (5,), "kinds": tuple(range(1, 26))}
    code = IN_A_PROCESS.format(str(tmp_path), dataclasses.replace(SMALL, **changes))
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/images/[a-z]*.png"))) < 5:
        assert process.poll() is None and time.monotonic() < deadline, "the build did not get going"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (folder,) = tmp_path.iterdir()
    made = {p: p.stat().st_mtime_ns for p in folder.glob("images/[a-z]*.png")}
    assert not (folder / "labels.csv").exists() and 5 <= len(made) < 71
    second_folder, labels = build(tmp_path, **changes)
    assert second_folder == folder and len(labels) == 25 * 3 - 4
    for path in made:  # kept, and whole
        assert path.stat().st_mtime_ns == made[path]
    for name in labels.image:
        with Image.open(folder / name) as image:
            image.load()


def test_two_builds_at_once(tmp_path):
    code = IN_A_PROCESS.format(str(tmp_path), SMALL)
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [p.wait(60) for p in both] == [0, 0]
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("images/*.png"))) == 16 == len(read_labels(folder))
    assert not list(folder.rglob(".*"))


def test_split_by_photograph():
    names = list(mini.read_manifest()["photographs"])
    table = mini.split(names)
    assert list(table.columns) == list(SESSION_COLUMNS) and set(table.index) == set(names)
    for session in SESSION_COLUMNS:
        sides = table[session].value_counts()
        assert sides["train"] + sides["val"] + sides["test"] == len(names)
        assert (sides / len(names)).to_dict() == pytest.approx(
            {"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.04
        )
    assert len({tuple(table[s]) for s in SESSION_COLUMNS}) == 10
    pd.testing.assert_frame_equal(table, mini.split(reversed(names)))


def test_all_views_of_a_photograph_are_on_the_same_side(tmp_path):
    folder, labels = build(tmp_path, views=["whole", "detail"])
    assert len(labels) == 2 * 16 and labels.image.is_unique
    assert (labels.groupby("reference")[list(SESSION_COLUMNS)].nunique() == 1).all(axis=None)
    whole, detail = (
        np.asarray(Image.open(folder / f"images/china{view}_10_02.png")) for view in ("", "-detail")
    )
    assert whole.shape == detail.shape and not np.array_equal(whole, detail)


def test_detail_is_the_middle_as_it_is():
    noise = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    photograph = Image.fromarray(noise)
    assert np.array_equal(mini.prepare(photograph, (100, 80), "detail"), noise[60:140, 100:200])
    large = mini.prepare(photograph, (600, 400), "detail")
    assert np.array_equal(large, mini.prepare(photograph, (600, 400))) and large.shape == (400, 600, 3)


def test_varied_views_are_for_training_alone(tmp_path):
    folder, labels = build(tmp_path, varied=2)
    assert len(labels) == 3 * 16 and labels.image.is_unique
    pd.testing.assert_frame_equal(read_labels(folder), labels)
    varied = labels.image.str.contains("-varied-")
    assert varied.sum() == 2 * 16
    for session in SESSION_COLUMNS:
        assert set(labels[session][varied].dropna()) == {"train"}
        assert set(labels[session][~varied]) == {"train", "val", "test"}
        # On the training side exactly where its photograph is.
        side = labels[~varied].groupby("reference")[session].first()
        assert ((labels[session] == "train") == (labels.reference.map(side) == "train")).all()
    first, second = (np.asarray(Image.open(folder / f"images/china-varied-{i}_10_02.png")) for i in (1, 2))
    assert first.shape == second.shape == (72, 96, 3) and not np.array_equal(first, second)


def test_a_varied_view_is_a_part_turned_and_bent():
    # Red falls from left to right, green from top to bottom, blue is 0: whatever part is seen, in whatever
    # orientation, two channels vary along one side each, and one stays black.
    across, down = np.meshgrid(np.linspace(250, 20, 400), np.linspace(250, 20, 300))
    photograph = Image.fromarray(np.stack([across, down, 0 * down], axis=2).astype(np.uint8))
    seen = set()
    for seed in range(40):
        view = mini.vary(photograph, (60, 40), np.random.default_rng(seed)).astype(float)
        assert view.shape == (40, 60, 3)
        along_x, along_y = (np.abs(np.diff(view, axis=axis)).mean(axis=(0, 1)) > 0.05 for axis in (1, 0))
        black = view.max(axis=(0, 1)) == 0
        assert black.sum() == along_x.sum() == along_y.sum() == 1 and not (along_x & along_y).any()
        red = np.flatnonzero(along_x)[0]  # or green, where it was turned
        rises = (view[0, -1, red] > view[0, 0, red], view[-1, 0, along_y] > view[0, 0, along_y])
        seen.add((int(red), int(np.flatnonzero(black)[0]), bool(rises[0]), bool(rises[1][0])))
    assert {s[:2] for s in seen} == {(i, j) for i in range(3) for j in range(3) if i != j}
    assert {s[2:] for s in seen} == {(a, b) for a in (False, True) for b in (False, True)}
    repeated = mini.vary(photograph, (60, 40), np.random.default_rng(0))
    assert np.array_equal(repeated, mini.vary(photograph, (60, 40), np.random.default_rng(0)))
    small = mini.vary(photograph.resize((45, 30)), (60, 40), np.random.default_rng(0))
    assert small.shape == (40, 60, 3)


def test_prepare_crops_the_middle():
    # Red, green, blue side by side; a square cut from the middle of a wide strip sees the green only.
    strip = np.zeros((100, 240, 3), np.uint8)
    strip[:, :60, 0] = strip[:, 60:180, 1] = strip[:, 180:, 2] = 255
    photograph = Image.fromarray(strip)
    assert np.array_equal(mini.prepare(photograph, (50, 50)), np.tile(np.uint8([0, 255, 0]), (50, 50, 1)))
    assert mini.prepare(photograph, (120, 50)).shape == (50, 120, 3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"photographs": ["lena", "coffee", "china"]}, "lena"),
        ({"photographs": ["coffee", "china"]}, "three"),
        ({"kinds": [26]}, "26"),
        ({"levels": [0, 1]}, r"level \[0\]"),
        ({"views": ["upside down"]}, "upside down"),
    ],
)
def test_bad_requests_are_named(tmp_path, changes, named):
    with pytest.raises(ValueError, match=named):
        build(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["skimage", "nopackage"])
def test_missing_photograph_is_named(package):
    manifest = {"photographs": {"cat": {"package": package, "file": "data/cat.png"}}}
    with pytest.raises(FileNotFoundError, match=rf"cat.*{package}"):
        mini.photograph_bytes("cat", manifest)


def test_manifest_agrees_with_the_distortions():
    manifest = mini.read_manifest()
    scenes = {"animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others"}
    assert list(manifest["opinions"]["mean"]) == list(distortions.DISTORTIONS)
    for entry in manifest["photographs"].values():
        assert entry["scenes"] and set(entry["scenes"]) <= scenes


KADID = MIRROR / "IQA_Database/kadid10k/splits2/kadid10k_all.txt"


@needs_mirror
def test_opinions_recompute():
    table = pd.read_csv(KADID, sep="\t", header=None, usecols=[0, 1], names=["image", "mos"])
    key = table["image"].str.extract(r"I\d+_(\d+)_(\d+)\.png$").astype(int)
    opinions = table["mos"].groupby([key[0], key[1]]).mean().unstack()
    assert opinions.shape == (25, 5)
    np.testing.assert_allclose(opinions, list(mini.read_manifest()["opinions"]["mean"].values()), atol=5.1e-5)


@needs_mirror
def test_labels_are_upstreams_words():
    table = pd.read_csv(KADID.parent / "1/kadid10k_train_clip.txt", sep="\t", header=None)
    number = table[0].str.extract(r"_(\d+)_\d+\.png$")[0].astype(int)
    words = table[2].groupby(number).unique().map(list).to_dict()
    assert words == {n: [d.label] for n, d in distortions.DISTORTIONS.items()}
