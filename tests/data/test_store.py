import os
import pickle
import signal
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.data import own_set, write_image
from support.interrupting import Job

from liqe_core.crops import CropGeometry, resize
from liqe_core.data import store as stores
from liqe_core.data.labelled import present_rows
from liqe_core.data.labels import COLUMNS, read_labels
from liqe_core.data.store import ImageSource, KeptWindows, PackedStore, StoreError
from liqe_core.intake.transfers import DiskFullError


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr(stores, "PER_PACK", 4)


@pytest.fixture
def manifest(tmp_path):
    """Ten images: three packs of four, four and two."""
    return own_set(tmp_path, count=10)


@pytest.fixture
def table(manifest):
    return read_labels(manifest)


def build(manifest, table, geometry=None, folder=None):
    source = ImageSource(manifest.name, manifest.folder(), geometry or CropGeometry())
    return PackedStore.build(source, present_rows(manifest, table), folder, progress=False)


def pixels(manifest, image):
    return np.asarray(Image.open(manifest.folder() / image).convert("RGB"))


def test_stored_images_equal_pillows(manifest, table):
    store = build(manifest, table)
    assert len(store) == 10
    pd.testing.assert_frame_equal(store.index[list(COLUMNS)], table)
    for i, image in enumerate(table["image"]):
        assert store[i].shape == (48, 64, 3) and store[i].dtype == np.uint8
        np.testing.assert_array_equal(store[i], pixels(manifest, image))
    assert not store[0].flags.writeable
    with pytest.raises(IndexError):
        store[10]
    copy = pickle.loads(pickle.dumps(store))  # to another process, with its maps
    np.testing.assert_array_equal(copy[4], store[4])


ENLARGED = CropGeometry(window=32, enlarge_to=96)


@pytest.mark.parametrize(
    ("geometry", "size", "stored"),
    [
        (CropGeometry(), (1000, 800), (960, 768)),
        (CropGeometry(), (767, 3000), (767, 3000)),
        (ENLARGED, (64, 48), (128, 96)),
    ],
)
def test_images_are_resized_by_their_geometry(tmp_path, geometry, size, stored):
    """The rule itself, and that pixels are torchvision's, is held by tests/test_crops.py."""
    write_image(tmp_path / "a.png", *size)
    table, source = pd.DataFrame({"image": ["a.png"]}), ImageSource("a", tmp_path, geometry)
    store = PackedStore.build(source, table, tmp_path / "store", progress=False)
    resized = resize(Image.open(tmp_path / "a.png"), geometry)
    assert resized.size == stored and np.array_equal(store[0], np.asarray(resized))
    opened = PackedStore.open(store.folder).source.geometry
    assert (opened.resize_to, opened.enlarge_to) == (geometry.resize_to, geometry.enlarge_to)


def test_stores_of_two_geometries_are_two(manifest, table, monkeypatch):
    geometries = [CropGeometry(), ENLARGED, CropGeometry(48, enlarge_to=97), CropGeometry(resize_to=None)]
    built = [build(manifest, table, geometry=g) for g in geometries]
    assert len({store.folder for store in built}) == 4
    packs_of = [{p.name for p in store.folder.glob("pack-*")} for store in built]
    assert all(len(names) == 6 for names in packs_of) and len(set.union(*packs_of)) == 24
    assert [store[0].shape[0] for store in built] == [48, 96, 97, 48]
    with monkeypatch.context() as patch:
        patch.setattr(stores, "read_image", lambda path: pytest.fail(f"{path} was read again"))
        for geometry, store in zip(geometries, built, strict=True):
            assert build(manifest, table, geometry=geometry).folder == store.folder
    other_window = CropGeometry(window=48, enlarge_to=96)
    assert build(manifest, table, geometry=other_window).folder == built[1].folder, "it decides no pixel"
    store = build(manifest, table, geometry=ENLARGED, folder=built[0].folder)
    assert store[0].shape[0] == 96
    assert len(list(store.folder.glob("pack-*.bin"))) == 3, "the old packs are deleted"


def test_only_changed_images_are_packed_again(manifest, table):
    first = build(manifest, table)
    times = {p.name: p.stat().st_mtime_ns for p in first.folder.glob("pack-*.bin")}
    write_image(manifest.folder() / "p005.png", seed=99)
    second = build(manifest, table)
    np.testing.assert_array_equal(second[5], pixels(manifest, "p005.png"))
    kept = {p.name for p in second.folder.glob("pack-*.bin") if times.get(p.name) == p.stat().st_mtime_ns}
    assert len(kept) == 2 and len(list(second.folder.glob("pack-*.bin"))) == 3
    table["mos"] += 1  # labels are no pixels
    third = build(manifest, table)
    assert third.index["mos"].tolist() == table["mos"].tolist()
    packs = [{path.name for path in store.folder.glob("pack-*.bin")} for store in (second, third)]
    assert packs[0] == packs[1]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda f: (f / "index.json").unlink(), "build"),
        (lambda f: (f / "index.json").write_text("[]"), "build"),
        (lambda f: (f / "index.json").write_text('{"format": 0}'), "format 2"),
        (lambda f: os.truncate(sorted(f.glob("*.bin"))[0], 1000), "pack-00000"),
        (lambda f: sorted(f.glob("pack-*.json"))[0].write_text("[]"), "pack-00000"),
    ],
)
def test_an_incomplete_store_is_rejected_and_rebuilt(manifest, table, spoil, word):
    store = build(manifest, table)
    spoil(store.folder)
    with pytest.raises(StoreError, match=word):
        PackedStore.open(store.folder)
    np.testing.assert_array_equal(build(manifest, table)[0], pixels(manifest, table["image"][0]))


def test_a_full_disk_is_reported(manifest, table, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores, "digest", full)
    with pytest.raises(DiskFullError, match="disk"):
        build(manifest, table)


def test_too_little_disk_space_is_reported_before_the_first_image(manifest, table, monkeypatch, tmp_path):
    needed, usage = 10 * 3 * 64 * 48, stores.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DiskFullError, match="free some space"):
        build(manifest, table)
    assert not list(tmp_path.rglob("pack-*"))
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert len(build(manifest, table)) == 10


def job(manifest, table):
    """Building the store, in packs of four, in a process of its own."""
    function = partial(PackedStore.build, workers=1, progress=False)
    source = ImageSource(manifest.name, manifest.folder())
    return Job(function, (source, table), patches={"liqe_core.data.store.PER_PACK": 4})


def test_a_build_killed_at_any_moment_is_resumed(manifest, table, monkeypatch):
    # Each of three packs is two files, put in place by os.replace; then comes the index, the last time.
    calls = [("liqe_core.data.store.read_image", 2), *(("os.replace", n) for n in (1, 2, 3, 4, 3))]
    for call, count in calls:
        assert job(manifest, table).killed_at(call, count) == -signal.SIGKILL
        assert not list(manifest.path.parent.glob("cache/store/*/index.json"))
    monkeypatch.setattr(stores, "read_image", lambda path: pytest.fail(f"{path} was read again"))
    store = build(manifest, table)
    assert len(store) == 10
    assert [p.name for p in store.folder.iterdir() if p.name.startswith(".")] == [], "no partial files"
    np.testing.assert_array_equal(store[7], pixels(manifest, "p007.png"))


def test_two_builders_at_once_make_one_store(manifest, table):
    assert job(manifest, table).ended(2) == [0, 0]
    assert len(build(manifest, table)) == 10


# ---- embeddings of windows in place of images ----

COUNTS = np.array([3, 1, 2, 3, 2])


@pytest.fixture
def values(tmp_path):
    """(5, 2, 3, 4) float16, every vector another one, over two files."""
    values = np.arange(5 * 2 * 3 * 4, dtype=np.float16).reshape(5, 2, 3, 4)
    np.save(tmp_path / "0.npy", values[:3])
    np.save(tmp_path / "1.npy", values[3:])
    return values


@pytest.fixture
def kept(values, tmp_path):
    return KeptWindows([tmp_path / "0.npy", tmp_path / "1.npy"], COUNTS)


def test_training_draws_windows_with_replacement_all_of_one_mirroring(kept, values):
    rng, drawn = np.random.default_rng(0), []
    for _ in range(200):
        windows = kept.for_training(2, 3, rng)
        assert windows.shape == (3, 4) and windows.dtype == torch.float32
        # The first value identifies the crop: for image 2 it is 48 or 52 (56 is not), mirrored 60 or 64.
        drawn.append(tuple(windows[:, 0].int().tolist()))
        assert [values.flat[first : first + 4].tolist() for first in drawn[-1]] == windows.tolist()
    plain = {first for windows in drawn if max(windows) < 60 for first in windows}
    mirrored = {first for windows in drawn if min(windows) >= 60 for first in windows}
    assert plain == {48, 52} and mirrored == {60, 64}
    assert all(max(windows) < 60 or min(windows) >= 60 for windows in drawn)
    assert {len(set(windows)) for windows in drawn} == {1, 2}
    repeated = kept.for_training(2, 3, np.random.default_rng(0))
    assert tuple(repeated[:, 0].int().tolist()) == drawn[0], "draws depend only on the generator"


def test_drawn_crops_do_not_modify_the_file(kept, values, tmp_path):
    kept.for_training(0, 3, np.random.default_rng(0)).zero_()
    kept.for_testing(0).zero_()
    assert np.array_equal(np.load(tmp_path / "0.npy"), values[:3])
