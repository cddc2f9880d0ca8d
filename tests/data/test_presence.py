import shutil

import pytest
from support.data import distorted_set, write_picture

from liqe_core.data.distorted import make_missing
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import load_manifest
from liqe_core.data.presence import status


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIQE_DATA", raising=False)


def test_a_set_that_is_made_here_says_what_to_fetch_for_it(tmp_path):
    ours = load_manifest("open-distorted")
    nothing = status(ours, tmp_path)
    assert (nothing.state, nothing.expected, nothing.found) == ("absent", 18_750, 0)
    assert nothing.next == "liqe data fetch open-distorted biq2021"
    write_picture(tmp_path / "open-distorted" / "photographs" / "train" / "a.png")
    assert status(ours, tmp_path).next == "liqe data fetch biq2021"
    shutil.rmtree(tmp_path / "open-distorted")
    (tmp_path / "BIQ2021").mkdir()
    assert status(ours, tmp_path).next == "liqe data fetch open-distorted"


def test_a_set_that_is_made_here_waits_for_its_first_use(tmp_path):
    manifest = distorted_set(tmp_path, photographs=1, best=1)
    before = status(manifest)
    assert (before.state, before.expected, before.found) == ("absent", 50, 0)
    assert before.next == "nothing to get: the pictures are made when they are first used"
    table = read_labels(manifest)
    make_missing(manifest, table, progress=False)
    made = status(manifest)
    assert (made.state, made.found, made.next) == ("complete", 50, f"liqe data verify {manifest.path}")
    (manifest.folder() / table["image"][3]).unlink()
    some = status(manifest)
    assert (some.state, some.found, some.next) == ("partly there", 49, before.next)
    shutil.rmtree(tmp_path / "BIQ2021")
    assert status(manifest).next == "liqe data fetch biq2021"


def test_wrong_labels_of_the_set_that_it_is_made_of_are_told(tmp_path):
    manifest = distorted_set(tmp_path, photographs=1, best=1)
    (tmp_path / "BIQ2021" / "Test (Images and MOS).csv").write_text("Image Name,MOS\np05.jpg,good\n")
    assert "line 2: score 'good' is not a number" in status(manifest).next


def test_a_set_of_classes_that_is_partly_there_names_the_class(tmp_path):
    scenes = load_manifest("open-scenes")
    assert status(scenes, tmp_path).next == "liqe data fetch open-scenes"
    write_picture(tmp_path / "open-scenes" / "imagenet" / "n01440764_tench.JPEG", format="JPEG")
    now = status(scenes, tmp_path)
    assert now.state == "partly there" and "no picture of class 'sun-1/art_gallery'" in now.next
