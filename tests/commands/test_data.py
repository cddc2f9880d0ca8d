import io
import shutil
import subprocess
import sys
import zipfile

import pandas as pd
import pytest
from support.data import distorted_set, own_set
from support.hub import stand_in

from liqe_core.commands.main import main
from liqe_core.data.labels import read_labels
from liqe_core.data.store import PackedStore
from liqe_core.files import CHECKOUT


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIQE_LABELS", raising=False)
    monkeypatch.delenv("LIQE_DATA", raising=False)


@pytest.fixture
def data(capsys):
    """Run ``data ...``; return the exit code and the output."""

    def run(*arguments):
        code = main(["data", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_list(data):
    code, out, _ = data("list")
    assert code == 0
    assert out.splitlines()[6].split()[:7] == ["koniq10k", "train", "10073", "1", "to", "5", "open"]


def test_a_users_dataset_from_archive_to_store(data, tmp_path):
    manifest = own_set(tmp_path, count=5)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in sorted((tmp_path / "photographs").iterdir()):
            archive.write(path, f"photographs/{path.name}")
            path.unlink()
    (tmp_path / "photographs").rmdir()
    code, out, _ = data("status", manifest.path)
    assert (code, "absent" in out) == (0, True)
    code, out, _ = data("unpack", manifest.path, tmp_path / "mine.zip", "--quiet")
    assert code == 0 and "complete, 5 of 5 images" in out
    assert f"liqe data verify {manifest.path}\n" in out, "as it was called, so that it can be given"
    code, out, _ = data("verify", manifest.path, "--quiet")
    assert (code, out) == (0, "holiday: every image is present and intact\n")
    code, out, _ = data("audit", manifest.path, "--quiet", "--csv", tmp_path / "audit.csv")
    assert code == 0 and "1 to 5, of 1 to 5" in out
    assert "score out of range" in set(pd.read_csv(tmp_path / "audit.csv")["audit"])
    code, out, _ = data("pack", manifest.path, "--quiet", "--out", tmp_path / "store")
    assert code == 0 and "5 images" in out
    assert len(PackedStore.open(tmp_path / "store")) == 5
    code, out, _ = data("labels", manifest.path, "--csv", tmp_path / "labels.csv")
    assert code == 0 and list(pd.read_csv(tmp_path / "labels.csv")["mos"]) == [1, 2, 3, 4, 5]


def test_problems_end_with_code_1_and_do_not_stop_the_others(data, tmp_path):
    manifest = own_set(tmp_path, count=3)
    (manifest.folder() / "p001.png").write_text("no image")
    code, out, _ = data("verify", manifest.path, "--quiet")
    assert code == 1 and "1 unreadable" in out and "report: " in out
    assert data("status", manifest.path)[0] == 1
    code, out, err = data("pack", "spaq", manifest.path, "--root", tmp_path, "--quiet")
    assert code == 1 and out == ""
    assert "no such label file of spaq" in err and "p001.png: not an image" in err
    code, out, _ = data("fetch", "agiqa1k", "--root", tmp_path)
    assert code == 1 and "agiqa1k: " in out and "https://github.com/lcysyzxdxc" in out
    (tmp_path / "empty").mkdir()
    code, out, _ = data("verify", "--root", tmp_path / "empty")
    assert code == 0 and "status" in out
    assert "nonsense" in data("verify", "nonsense")[2]


def test_images_that_are_not_generated_yet_are_no_error(data, tmp_path):
    manifest = distorted_set(tmp_path)
    code, out, _ = data("verify", manifest.path, "--quiet")
    assert code == 0 and f"{len(read_labels(manifest))} images" in out and "missing" not in out
    shutil.rmtree(tmp_path / "made")
    code, _, err = data("verify", manifest.path, "--quiet")
    assert code == 1 and "liqe data fetch made" in err


def test_fetch_reports_the_size_and_asks_first(data, tmp_path, monkeypatch):
    with stand_in(tmp_path, monkeypatch, ["csiq", "bid"]) as server:
        monkeypatch.setattr("sys.stdin", io.StringIO())  # no user input
        code, out, err = data("fetch", "csiq", "bid", "--quiet")
        assert code == 1 and "--yes" in err
        assert "https://s2.smu.edu" in out and "VQA-CityU/IQA_data: " in out and "kB to transfer" in out
        assert server.asked == []
        monkeypatch.setattr("liqe_core.commands.data._agreed", lambda question: False)
        assert data("fetch", "csiq")[0] == 1 and server.asked == []
        code, out, err = data("fetch", "csiq", "bid", "--yes", "--quiet")
        assert (code, err) == (0, "")
        assert "csiq: complete, 18 of 18 images in " in out and "next: liqe data verify bid" in out
        code, out, _ = data("fetch", "csiq", "--yes")
        assert code == 0 and "csiq: already complete in " in out
        assert "complete" in data("status", "csiq")[1]


def test_fetch_stops_without_disk_space_and_continues_after_a_failed_dataset(data, tmp_path, monkeypatch):
    with stand_in(tmp_path, monkeypatch, ["csiq", "bid"]) as server:
        server.files.pop("chaofengc/IQA-PyTorch-Datasets/csiq.tgz")
        code, out, err = data("fetch", "csiq", "bid", "--yes", "--quiet")
        assert code == 1 and "csiq.tgz: HTTP 404" in err and "bid: complete" in out
        csiq = (tmp_path / "manifests" / "csiq.yaml").read_text()
        (tmp_path / "manifests" / "huge.yaml").write_text(csiq.replace("bytes: ", "bytes: 99999999999"))
        assert "needed" in data("fetch", "huge", "--yes")[2]


def test_hf_endpoint_sets_the_mirror(tmp_path, monkeypatch):
    with stand_in(tmp_path, monkeypatch, ["csiq"]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        command = [sys.executable, "-m", "liqe_core", "data", "fetch", "csiq", "--yes", "--quiet"]
        run = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
        assert run.returncode == 0 and "csiq: complete, 18 of 18 images" in run.stdout, run.stderr
        assert [method for method, *_ in server.asked] == ["HEAD", "GET"]
