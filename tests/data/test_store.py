import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.data import MIRROR, SAMPLES, needs_samples, own_set, write_picture
from torchvision.transforms import Resize

from liqe_core.crops import CropGeometry
from liqe_core.data import store as stores
from liqe_core.data.labelled import present_rows
from liqe_core.data.labels import COLUMNS, read_labels
from liqe_core.data.manifests import load_manifest
from liqe_core.data.presence import MissingImagesError
from liqe_core.data.store import ImageSource, KeptWindows, PackedStore, StoreError


@pytest.fixture(autouse=True)
def small_packs(monkeypatch, tmp_path):
    monkeypatch.setattr(stores, "PER_PACK", 4)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def holiday(tmp_path):
    """Ten pictures: three packs of four, four and two."""
    manifest = own_set(tmp_path, count=10)
    return manifest, read_labels(manifest)


def build(manifest, table, geometry=None, folder=None, missing="error"):
    source = ImageSource(manifest.name, manifest.folder(), geometry or CropGeometry())
    return PackedStore.build(source, present_rows(manifest, table, missing=missing), folder, progress=False)


def pixels(manifest, image):
    return np.asarray(Image.open(manifest.folder() / image).convert("RGB"))


def test_what_is_read_is_what_pillow_reads(holiday):
    manifest, table = holiday
    store = build(manifest, table)
    assert len(store) == 10
    pd.testing.assert_frame_equal(store.index[list(COLUMNS)], table)
    for i, image in enumerate(table["image"]):
        assert store[i].shape == (48, 64, 3) and store[i].dtype == np.uint8
        np.testing.assert_array_equal(store[i], pixels(manifest, image))
    assert store.verify(progress=False) == []


def test_a_view_is_read_only(holiday):
    store = build(*holiday)
    assert not store[0].flags.writeable
    with pytest.raises(IndexError):
        store[10]


@pytest.mark.parametrize(
    ("width", "height", "stored"),
    [
        (1024, 768, (1024, 768)),  # the shorter side is 768 already
        (1000, 800, (960, 768)),
        (769, 1601, (768, 1598)),  # 768 * 1601 / 769 = 1598.92, rounded down
        (767, 3000, (767, 3000)),  # one side under 768: as it is
        (800, 800, (768, 768)),
    ],
)
def test_large_pictures_are_shrunk_as_torchvision_shrinks_them(tmp_path, width, height, stored):
    write_picture(tmp_path / "big.png", width, height)
    table = pd.DataFrame({"image": ["big.png"]})
    store = PackedStore.build(ImageSource("big", tmp_path), table, tmp_path / "store", progress=False)
    assert store[0].shape == (stored[1], stored[0], 3)
    picture = Image.open(tmp_path / "big.png")
    shrunk = Resize(768)(picture) if min(picture.size) >= 768 else picture
    np.testing.assert_array_equal(store[0], np.asarray(shrunk))
    source = ImageSource("big", tmp_path, CropGeometry(resize_to=None))
    unshrunk = PackedStore.build(source, table, tmp_path / "store", progress=False)
    assert unshrunk[0].shape == (height, width, 3), "another geometry, another pack"
    assert len(list((tmp_path / "store").glob("pack-*.bin"))) == 1, "the old one is gone"


ENLARGED = CropGeometry(window=32, enlarge_to=96)


def test_small_pictures_are_enlarged_as_torchvision_enlarges_them(holiday):
    manifest, table = holiday
    store = build(manifest, table, geometry=ENLARGED)
    for i, image in enumerate(table["image"]):
        enlarged = np.asarray(Resize(96)(Image.open(manifest.folder() / image)))
        assert enlarged.shape == (96, 128, 3)
        np.testing.assert_array_equal(store[i], enlarged)
    geometry = PackedStore.open(store.folder).source.geometry
    assert (geometry.resize_to, geometry.enlarge_to) == (768, 96)


def test_stores_of_two_geometries_are_two(holiday, monkeypatch):
    manifest, table = holiday
    geometries = [CropGeometry(), ENLARGED, CropGeometry(enlarge_to=97), CropGeometry(resize_to=None)]
    built = [build(manifest, table, geometry=g) for g in geometries]
    assert len({store.folder for store in built}) == 4
    packs_of = [{p.name for p in store.folder.glob("pack-*")} for store in built]
    assert all(len(names) == 6 for names in packs_of) and len(set.union(*packs_of)) == 24
    assert [store[0].shape[0] for store in built] == [48, 96, 97, 48]
    monkeypatch.setattr(stores, "read_picture", lambda path: pytest.fail(f"{path} was read again"))
    for geometry, store in zip(geometries, built, strict=True):
        assert build(manifest, table, geometry=geometry).folder == store.folder
    other_window = CropGeometry(window=48, enlarge_to=96)
    assert build(manifest, table, geometry=other_window).folder == built[1].folder, "it decides no pixel"


def test_only_what_changed_is_made_again(holiday):
    manifest, table = holiday
    first = build(manifest, table)
    times = {p.name: p.stat().st_mtime_ns for p in first.folder.glob("pack-*.bin")}
    write_picture(manifest.folder() / "p005.png", seed=99)
    second = build(manifest, table)
    np.testing.assert_array_equal(second[5], pixels(manifest, "p005.png"))
    kept = {p.name for p in second.folder.glob("pack-*.bin") if times.get(p.name) == p.stat().st_mtime_ns}
    assert len(kept) == 2 and len(list(second.folder.glob("pack-*.bin"))) == 3
    table["mos"] += 1  # labels are no pixels
    third = build(manifest, table)
    assert third.index["mos"].tolist() == table["mos"].tolist()
    assert {p.name for p in third.folder.glob("pack-*.bin")} == {
        p.name for p in second.folder.glob("pack-*.bin")
    }


def test_damage_is_found_and_mended(holiday):
    manifest, table = holiday
    store = build(manifest, table)
    victim = sorted(store.folder.glob("pack-00001-*.bin"))[0]
    raw = bytearray(victim.read_bytes())
    raw[100] ^= 1  # one bit of p004
    victim.write_bytes(raw)
    store = PackedStore.open(store.folder)
    assert store.verify(progress=False) == ["p004.png"]
    with pytest.raises(StoreError, match="gone or damaged"):
        PackedStore.open(store.folder)
    assert build(manifest, table).verify(progress=False) == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "index.json").unlink(), "no finished store"),
        (lambda f: (f / "index.json").write_text('{"format"'), "damaged"),
        (lambda f: (f / "index.json").write_text('{"format": 0}'), "format 0"),
        (lambda f: os.truncate(sorted(f.glob("*.bin"))[0], 1000), "1000 bytes, 36864 expected"),
        (lambda f: sorted(f.glob("pack-*.json"))[0].unlink(), "gone or damaged"),
    ],
)
def test_a_store_that_is_not_whole_is_refused(holiday, spoil, says):
    store = build(*holiday)
    spoil(store.folder)
    with pytest.raises(StoreError, match=says):
        PackedStore.open(store.folder)


def test_missing_pictures_are_refused_or_left_out(holiday):
    manifest, table = holiday
    (manifest.folder() / "p003.png").unlink()
    with pytest.raises(MissingImagesError, match=r"1 of 10 .*\(p003.png\)"):
        build(manifest, table)
    store = build(manifest, table, missing="skip")
    assert store.index["image"].tolist() == table["image"].drop(3).tolist()
    np.testing.assert_array_equal(store[3], pixels(manifest, "p004.png"))
    with pytest.raises(MissingImagesError, match=r"p003\.png"):
        build(manifest, table[3:4], missing="skip")


def test_pictures_that_cannot_be_read_are_named(holiday):
    manifest, table = holiday
    folder = manifest.folder()
    (folder / "p001.png").write_bytes((folder / "p001.png").read_bytes()[:-40])
    (folder / "p007.png").write_text("no picture")
    with pytest.raises(StoreError, match=r"2 (.|\n)*p001.png(.|\n)*p007.png"):
        build(manifest, table)


def test_a_name_that_differs_in_case_is_found(holiday):
    manifest, table = holiday
    (manifest.folder() / "p002.png").rename(manifest.folder() / "P002.PNG")
    store = build(manifest, table)
    assert store.index["image"][2] == "p002.png" and store.index["file"][2] == "P002.PNG"


def test_a_full_disk_is_said_plainly(holiday, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores, "digest", full)
    with pytest.raises(StoreError, match="the disk is full; make room"):
        build(*holiday)


def test_a_store_goes_to_another_process(holiday):
    store = build(*holiday)
    store[0].sum()
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy[4], store[4])


SCRIPT = """
import glob, os, signal, sys
from liqe_core import files
from liqe_core.data import store as stores
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import load_manifest
from liqe_core.data.store import ImageSource, KeptWindows, PackedStore, StoreError

stores.PER_PACK = 4
manifest = load_manifest(sys.argv[1])
read, atomic, seen = stores.read_picture, stores.atomic_path, []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def build(moment):
    def read_picture(path):
        seen.append(path)
        if moment == f"picture {len(seen)}":
            die()
        return read(path)

    def atomic_path(path):
        if moment == "before the second pack is called whole" and path.name.startswith("pack-00001"):
            if path.suffix == ".json":
                die()
        if moment == "before the index" and path.name == "index.json":
            die()
        return atomic(path)

    stores.read_picture = read_picture
    stores.atomic_path = files.atomic_path = atomic_path
    source = stores.ImageSource(manifest.name, manifest.folder())
    stores.PackedStore.build(source, read_labels(manifest), workers=1, progress=False)

def process(moment):
    child = os.fork()  # the imports take seconds, so once is enough
    if child == 0:
        try:
            build(moment)
            os._exit(len(seen))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(255)
    return child

children = []
for moment in sys.argv[2:]:
    children.append(process(moment))
    if moment != "now":
        end = os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1])
        print(end, "finished" if glob.glob(os.environ["STORES"] + "/*/index.json") else "unfinished")
for child in children:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "finished")
"""


def processes(manifest, *moments):
    """Builders, each a process, one after another (at the same time where the moment is "now").

    Returns:
        For each, how it ended (-9 when killed, else the number of pictures that it read), and whether there
        was a finished store then; and the store's folder.
    """
    stores = manifest.path.parent / "cache" / "store"
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(manifest.path), *moments],
        env=os.environ | {"STORES": str(stores)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    ends = [(int(end), state) for end, state in map(str.split, run.stdout.splitlines())]
    return ends, next(stores.iterdir())


def test_killed_at_any_moment_it_goes_on(holiday):
    manifest, _ = holiday
    moments = ["picture 2", "picture 6", "before the second pack is called whole", "before the index"]
    ends, folder = processes(manifest, *moments, "never")
    killed = (-signal.SIGKILL, "unfinished")
    # The fourth had finished every pack, so the fifth, which ended well, read no picture.
    assert ends == [killed, killed, killed, killed, (0, "finished")]
    store = PackedStore.open(folder)
    assert len(store) == 10 and store.verify(progress=False) == []
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == [], "what was torn is gone"
    np.testing.assert_array_equal(store[7], pixels(manifest, "p007.png"))


def test_two_builders_at_once_make_one_store(holiday):
    manifest, _ = holiday
    ends, folder = processes(manifest, "now", "now")
    assert sorted(ends) == [(0, "finished"), (10, "finished")], "the second found the work done"
    assert PackedStore.open(folder).verify(progress=False) == []


@needs_samples
@pytest.mark.parametrize(
    ("name", "count", "shape"), [("koniq10k", 16, (768, 1024, 3)), ("biq2021", 300, (512, 512, 3))]
)
def test_the_real_samples_are_packed(name, count, shape, monkeypatch):
    monkeypatch.setattr(stores, "PER_PACK", 128)
    if name == "koniq10k" and not MIRROR.is_dir():
        pytest.skip(f"the public label files are not at {MIRROR}")
    manifest, table = load_manifest(name), read_labels(name, root=SAMPLES, mirror=MIRROR)
    table = present_rows(manifest, table, SAMPLES, missing="skip")
    store = PackedStore.build(ImageSource(name, manifest.folder(SAMPLES)), table, progress=False)
    assert len(store) == count
    assert {picture.shape for picture in store} == {shape}
    assert store.verify(progress=False) == []
    # The labels came along with the right images.
    i = len(store) // 2
    assert store.index["mos"][i] == table.set_index("image").loc[store.index["image"][i], "mos"]
    file = manifest.folder(SAMPLES) / store.index["file"][i]
    np.testing.assert_array_equal(store[i], np.asarray(Image.open(file).convert("RGB")))


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


def test_a_picture_has_its_own_windows_and_no_more(kept, values):
    assert len(kept) == 5
    for i, count in enumerate(COUNTS):
        assert np.array_equal(kept[i], values[i, :, :count])
        tested = kept.for_testing(i)
        assert tested.dtype == torch.float32 and tested.tolist() == values[i, 0, :count].tolist()


def test_training_draws_windows_with_replacement_all_of_one_mirroring(kept, values):
    rng, drawn = np.random.default_rng(0), []
    for _ in range(200):
        windows = kept.for_training(2, 3, rng)
        assert windows.shape == (3, 4) and windows.dtype == torch.float32
        # The first value says which: of picture 2 they are 48, 52, (56 is not its own), and mirrored 60, 64.
        drawn.append(tuple(windows[:, 0].int().tolist()))
        assert [values.flat[first : first + 4].tolist() for first in drawn[-1]] == windows.tolist()
    plain = {first for windows in drawn if max(windows) < 60 for first in windows}
    mirrored = {first for windows in drawn if min(windows) >= 60 for first in windows}
    assert plain == {48, 52} and mirrored == {60, 64}
    assert all(max(windows) < 60 or min(windows) >= 60 for windows in drawn)
    assert {len(set(windows)) for windows in drawn} == {1, 2}
    repeated = kept.for_training(2, 3, np.random.default_rng(0))
    assert tuple(repeated[:, 0].int().tolist()) == drawn[0], "what is drawn is the generator's alone"


def test_what_is_drawn_does_not_write_to_the_file(kept, values, tmp_path):
    kept.for_training(0, 3, np.random.default_rng(0)).zero_()
    kept.for_testing(0).zero_()
    assert np.array_equal(np.load(tmp_path / "0.npy"), values[:3])


def test_files_that_hold_other_pictures_are_refused(tmp_path, kept):
    with pytest.raises(ValueError, match="5 counts"):
        KeptWindows([tmp_path / "0.npy"], COUNTS)
