"""The built-in dataset: complete, reproducible, and no photograph in two parts."""

import dataclasses
import shutil
import signal
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.data import MIRROR, content, needs_mirror
from support.interrupting import Job

from liqe_core.data import distortions, manifests, mini
from liqe_core.data.labels import COLUMNS
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.prompts import SCENES

SMALL = mini.Selection(("coffee", "camera", "china"), (2, 5), (1, 7, 10), (96, 72), ("whole",))


def read_labels(folder):
    labels = pd.read_csv(folder / "labels.csv")
    return labels.assign(scenes=[tuple(names.split(";")) for names in labels["scenes"]])


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


def test_images_are_the_distorted_photographs(small):
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
    path = folder / labels.image[0]  # one that is lost is made again
    before = path.read_bytes()
    path.unlink()
    build(root)
    assert path.read_bytes() == before


def test_content_decides_the_folder(small, tmp_path, monkeypatch):
    _, folder, _ = small
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path))
    same, _ = build(None)
    assert same == tmp_path / "mini" / folder.name
    assert content(same) == content(folder)
    assert build(tmp_path, levels=[2])[0].name != folder.name
    monkeypatch.setattr(mini, "VERSION", 0)
    assert build(tmp_path)[0].name != folder.name


def job(root, **changes):
    """The same in a process of its own."""
    return Job(partial(mini.build, progress=False), (root, dataclasses.replace(SMALL, **changes)))


def test_a_killed_build_is_resumed(tmp_path):
    changes = {"levels": (5,), "kinds": tuple(range(1, 26))}
    assert job(tmp_path, **changes).killed_at("os.replace", 20) == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    made = {p: p.stat().st_mtime_ns for p in folder.glob("images/[a-z]*.png")}
    assert not (folder / "labels.csv").exists() and 5 <= len(made) < 71
    second_folder, labels = build(tmp_path, **changes)
    assert second_folder == folder and len(labels) == 25 * 3 - 4
    assert {p: p.stat().st_mtime_ns for p in made} == made
    for name in labels.image:
        with Image.open(folder / name) as image:
            image.load()


def test_two_builds_at_once(tmp_path):
    assert job(tmp_path).ended(2) == [0, 0]
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("images/*.png"))) == 16 == len(read_labels(folder))
    assert not list(folder.rglob(".*"))


def test_an_installed_package_has_its_manifest_inside(tmp_path, monkeypatch):
    installed = shutil.copytree(manifests.own_manifests(), tmp_path / "liqe_core" / "data_manifests")
    monkeypatch.setattr(manifests, "CHECKOUT", tmp_path)
    assert manifests.own_manifests() == installed and mini.read_manifest()["photographs"]


def test_split_by_photograph():
    names = list(mini.read_manifest()["photographs"])
    table = mini.split(names)
    assert list(table.columns) == list(SESSION_COLUMNS) and set(table.index) == set(names)
    for session in SESSION_COLUMNS:
        sides = table[session].value_counts()
        assert sides["train"] + sides["val"] + sides["test"] == len(names)
        shares = {"train": 0.7, "val": 0.1, "test": 0.2}
        assert (sides / len(names)).to_dict() == pytest.approx(shares, abs=0.04)
    assert len({tuple(table[s]) for s in SESSION_COLUMNS}) == 10
    pd.testing.assert_frame_equal(table, mini.split(reversed(names)))


def test_all_views_of_a_photograph_are_on_the_same_side(tmp_path):
    _, labels = build(tmp_path, views=["whole", "detail"])
    assert len(labels) == 2 * 16 and labels.image.is_unique
    assert (labels.groupby("reference")[list(SESSION_COLUMNS)].nunique() == 1).all(axis=None)


def test_detail_is_the_middle_as_it_is():
    noise = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    photograph = Image.fromarray(noise)
    assert np.array_equal(mini.prepare(photograph, (100, 80), "detail"), noise[60:140, 100:200])
    assert np.array_equal(mini.prepare(photograph, (200, 200)), noise[:, 50:250]), "the center is cut out"
    large = mini.prepare(photograph, (600, 400), "detail")
    assert np.array_equal(large, mini.prepare(photograph, (600, 400))) and large.shape == (400, 600, 3)


def test_varied_views_are_for_training_only(tmp_path):
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
    # Red falls from left to right, green from top to bottom, blue is 0: in any part and orientation, two
    # channels vary along one side each, and one stays black.
    across, down = np.meshgrid(np.linspace(250, 20, 400), np.linspace(250, 20, 300))
    photograph = Image.fromarray(np.stack([across, down, 0 * down], axis=2).astype(np.uint8))
    red_channels, black_channels = set(), set()
    for seed in range(40):
        view = mini.vary(photograph, (60, 40), np.random.default_rng(seed)).astype(float)
        assert view.shape == (40, 60, 3)
        along_x, along_y = (np.abs(np.diff(view, axis=axis)).mean(axis=(0, 1)) > 0.05 for axis in (1, 0))
        black = view.max(axis=(0, 1)) == 0
        assert black.sum() == along_x.sum() == along_y.sum() == 1 and not (along_x & along_y).any()
        red_channels.add(int(along_x.argmax()))  # or green, where it was turned
        black_channels.add(int(black.argmax()))
    assert red_channels == black_channels == {0, 1, 2}
    repeated = mini.vary(photograph, (60, 40), np.random.default_rng(0))
    assert np.array_equal(repeated, mini.vary(photograph, (60, 40), np.random.default_rng(0)))
    small = mini.vary(photograph.resize((45, 30)), (60, 40), np.random.default_rng(0))
    assert small.shape == (40, 60, 3)


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
    assert list(manifest["opinions"]["mean"]) == list(distortions.DISTORTIONS)
    for entry in manifest["photographs"].values():
        assert entry["scenes"] and set(entry["scenes"]) <= set(SCENES)


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
