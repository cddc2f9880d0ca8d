import shutil
import signal
from functools import partial

import pandas as pd
import pytest
from support.data import distorted_set, own_set, write_image
from support.interrupting import Job

from liqe_core.data import verification
from liqe_core.data.distorted import make_missing
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import load_manifest
from liqe_core.data.verification import report_path, status, unfit, verify
from liqe_core.files import BusyError, only_one
from liqe_core.images import read_image


@pytest.fixture
def holiday(tmp_path):
    return own_set(tmp_path, count=6, image_size="[64, 48]")


def test_a_set_goes_from_absent_to_complete(tmp_path, holiday):
    assert status(holiday).state == "complete" and status(holiday).checked == 0
    assert status(holiday).next == f"liqe data verify {holiday.path}"
    assert verify(holiday, progress=False).empty
    after = status(holiday)
    assert (after.expected, after.found, after.checked, after.corrupt) == (6, 6, 6, 0)
    assert after.next == f"liqe data pack {holiday.path}"
    (holiday.folder() / "p005.png").unlink()
    assert status(holiday).state == "partly there" and "(1 images: p005.png)" in status(holiday).next
    for path in holiday.folder().glob("*.png"):
        path.unlink()
    assert status(holiday).state == "absent"


def test_mismatched_names_are_reported(holiday):
    path = holiday.folder() / "scores.csv"
    path.write_text(path.read_text().replace(".png", "").replace("p00", "photographs/p00"))
    assert "'photographs/p000'" in status(holiday).next and "'p000.png'" in status(holiday).next


def test_status_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("fetched"))
    write_image(tmp_path / "koniq-10k" / "1024x768" / "a.jpg")
    koniq = status(load_manifest("koniq10k"), tmp_path)
    assert (koniq.state, koniq.expected, koniq.found) == ("partly there", 10_073, 1)
    assert "data labels koniq10k" in koniq.next
    live = status(load_manifest("live"), tmp_path)
    assert (live.state, live.expected, live.found) == ("absent", 779, 0)
    assert live.next == "liqe data fetch live"


def test_every_problem_is_found_and_reported(holiday):
    folder = holiday.folder()
    (folder / "p000.png").unlink()
    (folder / "p001.png").write_bytes((folder / "p001.png").read_bytes()[:-100])
    (folder / "p002.png").write_text("no image")
    write_image(folder / "p003.png", 48, 64)
    (folder / "p004.png").rename(folder / "P004.png")
    write_image(folder / "extra.png")
    table = verify(holiday, progress=False)
    problems = ["missing", "cut short", "unreadable", "wrong size"]
    problems += ["name differs in case", "not in the labels"]
    assert table["problem"].tolist() == problems
    assert table["file"].tolist() == ["", "p001.png", "p002.png", "p003.png", "P004.png", "extra.png"]
    assert table["detail"][3] == "48 x 64, not 64 x 48"
    pd.testing.assert_frame_equal(pd.read_csv(report_path(holiday), keep_default_na=False), table)
    now = status(holiday)
    assert (now.state, now.found, now.case, now.corrupt) == ("corrupt", 5, 1, 2)
    # Mended, only those two are opened again.
    for name in ("p001.png", "p002.png"):
        write_image(folder / name, seed=7)
    assert status(holiday).corrupt == 0
    assert set(verify(holiday, progress=False)["problem"]).isdisjoint({"cut short", "unreadable"})


@pytest.mark.parametrize(
    ("suffix", "keep"), [(".jpg", 0.5), (".jpg", 0.98), (".bmp", 0.5), (".png", 0.9), (".jpg", 0.0)]
)
def test_truncated_files_are_distinguished_from_other_files(tmp_path, suffix, keep):
    manifest = own_set(tmp_path, count=2, width=256, height=256, suffix=suffix)
    path = manifest.folder() / f"p001{suffix}"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    table = verify(manifest, progress=False)
    assert list(table["problem"]) == ["cut short"] and "p001" in table["detail"][0]


def test_one_process_at_a_time(holiday):
    journal = report_path(holiday).with_suffix(".jsonl")
    with only_one(journal), pytest.raises(BusyError, match="verifying"):
        verify(holiday, progress=False)


def test_a_killed_verification_is_resumed(tmp_path, monkeypatch):
    manifest = own_set(tmp_path, count=30)
    job = Job(partial(verify, progress=False, workers=1), (manifest,))
    assert job.killed_at("liqe_core.data.verification.read_image", 20) == -signal.SIGKILL
    assert not report_path(manifest).exists(), "no partial report"
    known = status(manifest).checked
    assert known > 0
    with report_path(manifest).with_suffix(".jsonl").open("a") as file:
        file.write('{"file": "p0')  # a line torn by the kill
    opened = []
    monkeypatch.setattr(verification, "read_image", lambda path: opened.append(path) or read_image(path))
    assert verify(manifest, progress=False).empty
    assert len(opened) == 30 - known
    assert status(manifest).checked == 30


def test_a_dataset_from_packages_needs_no_download(tmp_path):
    (tmp_path / "mini.yaml").write_text("title: m\nphotographs: [x]\n")
    assert status(load_manifest(tmp_path / "mini.yaml")).next.startswith("nothing to get")


def test_unreadable_labels_are_reported(holiday):
    (holiday.folder() / "scores.csv").write_text("file_name,opinion\np000.png,nan\n")
    now = status(holiday)
    assert now.state == "partly there" and "line 2" in now.next


def test_images_smaller_than_a_crop_are_reported(tmp_path):
    manifest = own_set(tmp_path, count=4, width=64, height=48)
    write_image(manifest.folder() / "p001.png", 20, 48)
    table = verify(manifest, progress=False)
    assert table[["image", "problem"]].to_numpy().tolist() == [["p001.png", "too small"]]
    assert list(unfit(table)) == ["p001.png"] and "20 x 48" in table["detail"][0]
    assert len(verify(manifest, progress=False, window=49)) == 4 and verify(manifest, window=20).empty
    write_image(manifest.folder() / "p003.png", 300, 224)
    small = verify(manifest, progress=False)
    assert small["image"].tolist() == ["p000.png", "p001.png", "p002.png"], "the paper's crop is 224 x 224"


def test_a_generated_dataset_names_its_downloads(tmp_path):
    ours = load_manifest("open-distorted")
    nothing = status(ours, tmp_path)
    assert (nothing.state, nothing.expected, nothing.found) == ("absent", 23_868, 0)
    assert nothing.next == "liqe data fetch open-distorted biq2021"
    write_image(tmp_path / "open-distorted" / "photographs" / "train" / "a.png")
    assert status(ours, tmp_path).next == "liqe data fetch biq2021"
    shutil.rmtree(tmp_path / "open-distorted")
    (tmp_path / "BIQ2021").mkdir()
    assert status(ours, tmp_path).next == "liqe data fetch open-distorted"


def test_a_generated_dataset_is_made_at_first_use(tmp_path):
    manifest = distorted_set(tmp_path, photographs=1, best=1)
    before = status(manifest)
    assert (before.state, before.expected, before.found) == ("absent", len(read_labels(manifest)), 0)
    assert before.next.startswith("nothing to get")
    table = read_labels(manifest)
    make_missing(manifest, table, progress=False)
    made = status(manifest)
    assert (made.state, made.found) == ("complete", len(table))
    assert made.next == f"liqe data verify {manifest.path}"
    (manifest.folder() / table["image"][3]).unlink()
    fewer = status(manifest)
    assert (fewer.state, fewer.found, fewer.next) == ("partly there", len(table) - 1, before.next)
    (tmp_path / "BIQ2021" / "Test (Images and MOS).csv").write_text("Image Name,MOS\np05.jpg,good\n")
    assert "line 2: " in status(manifest).next and "'good'" in status(manifest).next
    shutil.rmtree(tmp_path / "BIQ2021")
    assert status(manifest).next == "liqe data fetch biq2021"
