"""Generated distortions of photographs: their table, and that images are made once and completely."""

import shutil
import signal
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.data import distorted_set
from support.interrupting import Job

from liqe_core.data import distorted, distortions
from liqe_core.data.distorted import best_scored, label_table, make_missing
from liqe_core.data.labelled import packed_set
from liqe_core.data.labels import read_labels
from liqe_core.data.mini import read_manifest
from liqe_core.data.presence import MissingImagesError
from liqe_core.data.splits import SESSION_COLUMNS, with_validation
from liqe_core.images import ImageError, list_images, read_image

PHOTOGRAPHS = [f"test/{i}.jpg" for i in range(20)]


@pytest.fixture
def scored():
    """Labels of forty scored images with a public split: p00 the best, every fifth a test image."""
    names = [f"Images/p{i:02}.jpg" for i in range(40)]
    parts = ["test" if i % 5 == 0 else "train" for i in range(40)]
    mos = np.linspace(1, 0, 40)
    return pd.DataFrame({"image": names, "mos": mos, "reference": None, "session_1": parts})


def numbers(table):
    """(distortion, level) of each image, from its name."""
    return [tuple(map(int, Path(image).stem.rsplit("_", 2)[1:])) for image in table["image"]]


def test_each_photograph_has_every_distortion_once_and_every_level_five_times(scored):
    table = label_table(PHOTOGRAPHS, best_scored(scored, 5), "images")
    assert table["image"].is_unique
    opinions = read_manifest()["opinions"]["mean"]
    for (kind, level), mos, name in zip(numbers(table), table["mos"], table["distortion"], strict=True):
        distortion = distortions.find(kind)
        assert mos == opinions[distortion.stands_for][level - 1] and name == distortion.label
    orders, grey = set(), 0
    for _, rows in table.groupby("reference"):
        level_of = dict(numbers(rows))
        if 7 not in level_of:  # would make the photograph grey
            level_of[7], grey = 4, grey + 1
        assert sorted(level_of) == list(range(1, 33))
        assert sorted(level_of[kind] for kind in range(1, 26)) == sorted([1, 2, 3, 4, 5] * 5)
        orders.add(tuple(level_of[kind] for kind in range(1, 33)))
    assert len(orders) == 25, "the levels are drawn anew for each photograph"
    assert 0 < grey < 25 and len(table) == 25 * 32 - grey
    for session in SESSION_COLUMNS:
        parts = table[table["reference"].isin(PHOTOGRAPHS)].groupby("reference")[session].agg(set)
        assert parts.map(min).value_counts().to_dict() == {"train": 14, "val": 2, "test": 4}
        assert parts.map(len).eq(1).all(), "all of a photograph in one part"
    alone = label_table(PHOTOGRAPHS[7:8], best_scored(scored, 0), "images")
    first = table[table["reference"] == PHOTOGRAPHS[7]]
    assert list(alone["image"]) == list(first["image"]), "and do not depend on the others"


def test_the_best_of_the_other_set_are_trained_on_where_that_set_trains_on_them(scored):
    best = best_scored(scored, 10)
    public = scored.loc[scored["session_1"] == "train", "image"].tolist()
    assert best["image"].tolist() == public[:10], "the best-scored, and none of the public test part"
    table = label_table(PHOTOGRAPHS, best, "images")
    theirs = with_validation(scored).set_index("image")  # as in training on that dataset
    held = 0
    for session in SESSION_COLUMNS:
        parts = table[table["reference"].isin(best["image"])].groupby("reference")[session].agg(list)
        for name, of_photograph in parts.items():
            assert len(of_photograph) in (31, 32)
            if theirs.loc[name, session] == "train":
                assert set(of_photograph) == {"train"}
            else:
                assert pd.isna(of_photograph).all(), "in no part"
                held += 1
    assert 0 < held < 100, "otherwise the test checks nothing"


def test_photographs_with_clashing_image_names_are_rejected(scored):
    with pytest.raises(ValueError, match=r"'a/b.jpg' and 'a-b.png'"):
        label_table(["a/b.jpg", "c.jpg", "a-b.png"], best_scored(scored, 1), "images")


@pytest.fixture
def made(tmp_path):
    """The manifest of a small dataset, its labels, and its folder with all generated images."""
    manifest = distorted_set(tmp_path, photographs=1, best=1)
    table = read_labels(manifest)
    make_missing(manifest, table, progress=False)
    return manifest, table, manifest.folder()


def content(folder):
    return {name: (folder / name).read_bytes() for name in list_images(folder)}


def test_images_have_the_distortions_in_their_names(made):
    _, table, folder = made
    clean = {
        "part/0.png": np.asarray(read_image(folder / "photographs/part/0.png")),
        "Images/p04.jpg": np.asarray(read_image(folder.parent / "BIQ2021/Images/p04.jpg")),
    }
    for i in (0, 9, 24, 25, 40):
        image, (kind, level) = table["image"][i], numbers(table)[i]
        expected = distortions.distort(clean[table["reference"][i]], kind, level, zlib.crc32(image.encode()))
        np.testing.assert_array_equal(np.asarray(Image.open(folder / image)), expected)
    assert set(list_images(folder / "images")) == {Path(image).name for image in table["image"]}


def test_a_missing_image_is_made_again_with_the_same_bytes_and_no_other(made, monkeypatch):
    manifest, table, folder = made
    before = content(folder)
    gone = [table["image"][i] for i in (4, 11, 30)]  # includes images with noise
    kept = {name: (folder / name).stat().st_ctime_ns for name in table["image"] if name not in gone}
    for name in gone:
        (folder / name).unlink()
    make_missing(manifest, table, progress=False)
    assert content(folder) == before
    assert {name: (folder / name).stat().st_ctime_ns for name in kept} == kept
    monkeypatch.setattr(distorted, "read_image", lambda path: pytest.fail(f"{path} was read"))
    make_missing(manifest, table, progress=False)


def test_a_killed_build_leaves_complete_images_and_is_resumed(made):
    manifest, table, folder = made
    before = content(folder)
    shutil.rmtree(folder / "images")
    job = Job(partial(make_missing, progress=False), (manifest, table))
    assert job.killed_at("os.replace", 4) == -signal.SIGKILL
    present = {n: b for n, b in content(folder).items() if n.startswith("images/")}
    assert present and present.items() <= before.items()
    make_missing(manifest, table, progress=False)
    assert content(folder) == before


def test_a_photograph_that_is_missing_or_no_image_is_named(tmp_path):
    manifest = distorted_set(tmp_path, photographs=2)
    table = read_labels(manifest)
    assert table["reference"].nunique() == 4 and table["distortion_group"].notna().all()
    own = manifest.folder() / "photographs/part/1.png"
    theirs = tmp_path / "BIQ2021/Images/p04.jpg"
    for path, name in ((own, "part/1.png"), (theirs, "Images/p04.jpg")):
        body = path.read_bytes()
        path.unlink()
        with pytest.raises(MissingImagesError, match=name):
            make_missing(manifest, table, progress=False)
        path.write_bytes(body[: len(body) // 2])
        with pytest.raises(ImageError, match=str(path)):
            make_missing(manifest, table, progress=False)
        Image.new("RGB", (200, 63)).save(path)
        with pytest.raises(ImageError, match=rf"{path}: .*64"):
            make_missing(manifest, table, progress=False)
        path.write_bytes(body)
        shutil.rmtree(manifest.folder() / "images", ignore_errors=True)


def test_the_other_dataset_may_be_in_the_default_folder(tmp_path):
    manifest = distorted_set(tmp_path, photographs=1, best=1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "BIQ2021").rename(tmp_path / "elsewhere" / "BIQ2021")
    dataset = packed_set(manifest, root=tmp_path, progress=False)
    assert dataset.table["image"].tolist() == read_labels(manifest)["image"].tolist()
    assert dataset.images[0].shape == (64, 72, 3) and dataset.images[-1].shape == (72, 64, 3)
