"""Transfers from a local hub. Weights: test_published; datasets: test_fetch."""

import errno
import hashlib
import os
import signal
import sys
import time
from functools import partial

import pytest
from huggingface_hub import get_session, set_client_factory
from huggingface_hub.utils._http import default_client_factory
from support.data import names_in
from support.hub import COMMIT, hub_of
from support.interrupting import Job
from support.xet import BLOCK

from liqe_core.intake.transfers import DiskFullError, FetchError, RemoteFile, fetch_file, hub_file

BODY = bytes(range(256)) * 1000
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local hub with one file, also at a second address, in pieces of 10 KiB instead of 10 MiB."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10240)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    with hub_of({"o/n/a.zip": BODY}) as hub:
        hub.second = {"a.zip": BODY}
        yield hub


def pinned(hub):
    return hub_file("o/n", "a.zip", COMMIT, SHA)


def unpinned(hub):
    return hub_file("o/n", "a.zip")


def model(hub):
    return hub_file("o/n", "a.zip", kind="model")


def elsewhere(hub):
    return RemoteFile(f"{hub.second_url}a.zip", SHA)


SOURCES = pytest.mark.parametrize("source", [pinned, unpinned, model, elsewhere])


def get(source, tmp_path):
    return fetch_file(source, tmp_path / "new" / "a.zip", progress=False)


@SOURCES
def test_a_file_is_fetched_once(hub, tmp_path, source):
    url = get(source(hub), tmp_path)
    assert url.endswith("/second/a.zip" if source is elsewhere else f"/o/n/resolve/{COMMIT}/a.zip")
    assert (tmp_path / "new" / "a.zip").read_bytes() == BODY and names_in(tmp_path / "new") == ["a.zip"]
    requests = len(hub.asked)
    assert get(source(hub), tmp_path) == "" and len(hub.asked) == requests
    (tmp_path / "new" / "a.zip").write_bytes(b"damaged")
    if source in (pinned, elsewhere):
        get(source(hub), tmp_path)
        assert (tmp_path / "new" / "a.zip").read_bytes() == BODY, "one with another checksum is replaced"


@SOURCES
@pytest.mark.parametrize(("cut", "twice"), [(20480, 0), (25000, 4520)])
def test_a_transfer_interrupted_ten_times_completes(hub, tmp_path, source, cut, twice):
    """Each interruption repeats only the incomplete piece."""
    hub.cuts = [cut] * 10
    get(source(hub), tmp_path)
    assert (tmp_path / "new" / "a.zip").read_bytes() == BODY and names_in(tmp_path / "new") == ["a.zip"]
    assert [start for start, _ in hub.sent] == [20480 * k for k in range(11)]
    assert sum(end - start for start, end in hub.sent) == len(BODY) + 10 * twice


@SOURCES
def test_a_later_call_resumes_an_interrupted_transfer(hub, tmp_path, source):
    hub.cuts = [5000] * 99
    with pytest.raises(FetchError, match="connection"):
        get(source(hub), tmp_path)
    assert len(hub.sent) == 6 and names_in(tmp_path / "new") == [], "no complete piece, no partial file"
    hub.cuts = [30720, *[5000] * 99]
    with pytest.raises(FetchError, match="30720"):
        get(source(hub), tmp_path)
    hub.cuts = []
    hub.sent.clear()
    get(source(hub), tmp_path)
    assert hub.sent == [(30720, len(BODY))] and names_in(tmp_path / "new") == ["a.zip"]


def test_a_server_without_ranges_sends_all_of_it_again(hub, tmp_path):
    hub.cuts, hub.ranges = [30720], False
    get(elsewhere(hub), tmp_path)
    assert (tmp_path / "new" / "a.zip").read_bytes() == BODY and hub.sent[1] == (0, len(BODY))


def test_chunked_files_come_over_several_connections_and_a_later_call_continues_them(hub, tmp_path):
    hub.chunked, hub.pace, target = True, 0.3, tmp_path / "new" / "a.zip"
    job = Job(partial(fetch_file, progress=False), (pinned(hub), target))

    def part():
        return next(tmp_path.glob("new/.a.zip.*.download"), None)

    assert job.ended_by(signal.SIGKILL, lambda: part() and part().stat().st_size >= 80_000) == -signal.SIGKILL
    kept = part().stat().st_size
    assert 80_000 <= kept < len(BODY) and hub.answered[0] > 1, "blocks were asked for side by side"
    hub.blocks.clear()
    get(pinned(hub), tmp_path)
    assert target.read_bytes() == BODY and hub.sent == [] and names_in(target.parent) == ["a.zip"]
    assert sorted(hub.blocks) == list(range(kept // BLOCK, 7)), "the others, and the one that it broke in"


def test_a_signal_ends_a_transfer_of_chunks_that_is_stalled(hub, tmp_path):
    hub.chunked, hub.pace = True, 60
    job = Job(partial(fetch_file, progress=False), (pinned(hub), tmp_path / "a.zip"))
    began = time.monotonic()
    assert job.ended_by(signal.SIGINT, lambda: hub.blocks) == 130 and time.monotonic() - began < 30


def test_where_the_chunked_storage_fails_one_connection_continues(hub, tmp_path):
    hub.chunked = hub.broken = True
    get(pinned(hub), tmp_path)
    assert (tmp_path / "new" / "a.zip").read_bytes() == BODY and hub.sent == [(0, len(BODY))]


@SOURCES
@pytest.mark.parametrize("length", [20480, len(BODY), len(BODY) + 1])
def test_the_part_of_another_file_is_not_kept_for_ever(hub, tmp_path, source, length):
    hub.cuts = [20480, *[0] * 6]
    with pytest.raises(FetchError, match="20480"):
        get(source(hub), tmp_path)
    next(iter(tmp_path.glob("new/.*"))).write_bytes(b"x" * length)
    try:
        get(source(hub), tmp_path)
    except FetchError:
        assert names_in(tmp_path / "new") == []
        get(source(hub), tmp_path)
    assert (tmp_path / "new" / "a.zip").read_bytes() == BODY


@SOURCES
def test_other_content_is_rejected_and_deleted(hub, tmp_path, source):
    hub.tags["o/n/a.zip"] = SHA
    hub.files["o/n/a.zip"] = hub.second["a.zip"] = BODY[:-1] + b"x"
    with pytest.raises(FetchError, match=SHA):
        get(source(hub), tmp_path)
    assert names_in(tmp_path / "new") == []


def test_a_replaced_file_is_rejected_before_its_transfer(hub, tmp_path):
    hub.files["o/n/a.zip"] += b"more"
    with pytest.raises(FetchError, match="checksum"):
        get(pinned(hub), tmp_path)
    assert hub.sent == [] and names_in(tmp_path / "new") == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
@SOURCES
def test_an_http_error_names_the_address_and_the_status(hub, tmp_path, source, status):
    hub.status = hub.second_status = status
    with pytest.raises(FetchError, match=rf"^{hub.url}\S+/a\.zip: HTTP {status}"):
        get(source(hub), tmp_path)
    assert names_in(tmp_path / "new") == []


def test_a_token_is_sent_to_the_hub_only(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    get(pinned(hub), tmp_path)
    (tmp_path / "new" / "a.zip").unlink()
    get(elsewhere(hub), tmp_path)
    assert [request.authorization for request in hub.asked] == ["Bearer hf_mine", "Bearer hf_mine", None]


@SOURCES
def test_a_full_disk_keeps_the_part(hub, tmp_path, source, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match=r"a\.zip.*disk"):
            get(source(hub), tmp_path)
    assert not (tmp_path / "new" / "a.zip").exists()
    get(source(hub), tmp_path)
    assert (tmp_path / "new" / "a.zip").read_bytes() == BODY


def test_https_is_not_left_for_http(tmp_path):
    """A server sends a download on to plain http: nothing is asked there, and nothing stays here."""
    client = type(get_session())
    web = sys.modules[client.__module__.partition(".")[0]]
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return web.Response(302, headers={"location": "http://example.org/file.zip"})

    set_client_factory(lambda: client(transport=web.MockTransport(answer), follow_redirects=True))
    try:
        with pytest.raises(FetchError, match=r"http://example\.org/file\.zip"):
            fetch_file(RemoteFile("https://127.0.0.1/file.zip"), tmp_path / "file.zip", progress=False)
    finally:
        set_client_factory(default_client_factory)
    assert asked == ["https://127.0.0.1/file.zip"] and not (tmp_path / "file.zip").exists()
