import errno
import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest
from support.server import serving

from liqe_core.files import BusyError, only_one
from liqe_core.intake import downloads
from liqe_core.intake.downloads import download
from liqe_core.intake.hub import FetchError

BODY = bytes(range(256)) * 4000  # a megabyte
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))


def get(server, path, **options):
    options = {"pause": 0.01, "progress": False, "sha256": SHA} | options
    return download(server.url + "file.zip", path, **options)


def test_a_file_is_fetched_once(tmp_path):
    with serving({"file.zip": BODY}) as server:
        assert get(server, tmp_path / "new" / "file.zip").read_bytes() == BODY
        get(server, tmp_path / "new" / "file.zip")
        assert len(server.asked) == 1
    assert os.listdir(tmp_path / "new") == ["file.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_is_cut_goes_on(tmp_path, ranges):
    with serving({"file.zip": BODY}) as server:
        server.cut, server.cuts, server.ranges = 300_000, 2, ranges
        assert get(server, tmp_path / "file.zip").read_bytes() == BODY
        wanted = [None, "bytes=300000-", "bytes=600000-" if ranges else "bytes=300000-"]
        assert [header for _, header in server.asked] == wanted


def test_a_transfer_that_is_always_cut_is_told_and_kept(tmp_path):
    with serving({"file.zip": BODY}) as server:
        server.cut, server.cuts = 100_000, 3
        with pytest.raises(
            FetchError, match=r"cut at 300000 of 1024000 bytes \(3 tries, 300000 bytes kept\)"
        ):
            get(server, tmp_path / "file.zip", retries=2)
        assert not (tmp_path / "file.zip").exists()
        get(server, tmp_path / "file.zip")
        assert server.asked[-1][1] == "bytes=300000-", "a later call goes on from there"


def test_a_busy_server_is_asked_again(tmp_path):
    with serving({"file.zip": BODY}) as server:
        server.busy = 2
        get(server, tmp_path / "file.zip")
        server.busy = 9
        with pytest.raises(FetchError, match="HTTP 503"):
            get(server, tmp_path / "other.zip", retries=1)


def test_a_checksum_that_differs_is_refused(tmp_path):
    says = r"checksum differs \(SHA-256 " + SHA
    with serving({"file.zip": BODY}) as server, pytest.raises(FetchError, match=says):
        get(server, tmp_path / "file.zip", sha256="0" * 64)
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []


def test_what_was_kept_of_another_file_does_not_spoil_this_one(tmp_path):
    (tmp_path / ".file.zip.download").write_bytes(b"x" * 2_000_000)  # longer than the file: HTTP 416
    with serving({"file.zip": BODY}) as server:
        assert get(server, tmp_path / "file.zip").read_bytes() == BODY


def test_404_is_told_at_once(tmp_path):
    with serving({}) as server:
        with pytest.raises(FetchError, match=r"file.zip: not there \(HTTP 404\)"):
            get(server, tmp_path / "file.zip")
        assert len(server.asked) == 1


@pytest.mark.parametrize("said", [True, False])
def test_a_web_page_in_place_of_the_file_is_refused(tmp_path, said):
    page = b"\n<!DOCTYPE html><html>log in</html>"
    with serving({"file.zip": page if not said else b"Quota exceeded"}) as server:
        server.html = said
        with pytest.raises(FetchError, match=r"a web page, not file\.zip"):
            get(server, tmp_path / "file.zip", sha256=None)
    assert not (tmp_path / "file.zip").exists()


def test_a_server_that_is_not_there(tmp_path):
    with serving({}) as server:
        pass
    with pytest.raises(FetchError, match="no connection"):
        get(server, tmp_path / "file.zip", retries=0)


def test_only_https(tmp_path):
    for url in ("http://example.org/file.zip", "ftp://example.org/file.zip", "file:///etc/passwd"):
        with pytest.raises(FetchError, match="only https"):
            download(url, tmp_path / "file.zip")


def test_being_sent_to_an_insecure_address_is_refused(tmp_path, monkeypatch):
    with serving({"file.zip": BODY}) as server:
        urlopen = downloads.urllib.request.urlopen

        def redirected(*args, **kwargs):
            reply = urlopen(*args, **kwargs)
            reply.url = "http://example.org/file.zip"
            return reply

        monkeypatch.setattr(downloads.urllib.request, "urlopen", redirected)
        with pytest.raises(FetchError, match=r"http://example\.org/file\.zip: only https"):
            get(server, tmp_path / "file.zip")
    assert not (tmp_path / "file.zip").exists()


def test_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving({"file.zip": BODY}) as server:
        monkeypatch.setattr(downloads.os, "fsync", full)
        with pytest.raises(FetchError, match=r"the disk is full .*make room and run it again"):
            get(server, tmp_path / "file.zip")
        assert not (tmp_path / "file.zip").exists()
        monkeypatch.undo()


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "file.zip"
    says = "another process is fetching it"
    with serving({"file.zip": BODY}) as server, only_one(path), pytest.raises(BusyError, match=says):
        get(server, path)


def test_killed_in_the_middle_it_goes_on(tmp_path):
    command = "import sys; from liqe_core.intake.downloads import download;"
    command += "download(*sys.argv[1:3], progress=False)"
    part = tmp_path / ".file.zip.download"
    with serving({"file.zip": BODY * 8}) as server:
        server.pace = 0.005
        process = subprocess.Popen(
            [sys.executable, "-c", command, server.url + "file.zip", tmp_path / "file.zip"]
        )
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 1_000_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = part.stat().st_size
        assert 1_000_000 < kept < len(BODY) * 8 and not (tmp_path / "file.zip").exists()
        server.pace = 0
        get(server, tmp_path / "file.zip", sha256=hashlib.sha256(BODY * 8).hexdigest())
        assert server.asked[-1][1] == f"bytes={kept}-"
    assert not part.exists()
