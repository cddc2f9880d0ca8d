"""The transport, against a stand-in for the hub. Weights: test_published; data sets: test_hosted."""

import hashlib

import pytest
from support.hub import COMMIT, hub_of

from liqe_core.intake.hub import FetchError, fetch_from_hub

BODY = bytes(range(256)) * 1000
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in with one file, which comes in pieces of 10 KiB, not 10 MiB."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10240)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    with hub_of({"o/n/a.zip": BODY}) as hub:
        yield hub


def get(tmp_path, **options):
    return fetch_from_hub(tmp_path / "a.zip", "o/n", "a.zip", **{"progress": False} | options)


def left(tmp_path):
    return sorted(p.name for p in tmp_path.iterdir() if p.name != "cache")


PINNED = {"revision": COMMIT, "sha256": SHA}


@pytest.mark.parametrize("cut, twice", [(20480, 0), (25000, 4520)])
def test_a_transfer_that_is_cut_ten_times_ends_whole(hub, tmp_path, cut, twice):
    """Asked for twice is, a cut, only what came of a piece that was not whole."""
    hub.cuts = [cut] * 10
    get(tmp_path, **PINNED)
    assert (tmp_path / "a.zip").read_bytes() == BODY and len(hub.sent) == 11
    assert [start for start, _ in hub.sent] == [20480 * k for k in range(11)]
    assert sum(end - start for start, end in hub.sent) == len(BODY) + 10 * twice
    assert left(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_what_a_call_left_the_next_one_goes_on_from(hub, tmp_path, kind):
    hub.cuts = [5000] * 99
    with pytest.raises(FetchError, match=r"no connection, or it broke .*; check the network and try again"):
        get(tmp_path, kind=kind)
    assert len(hub.sent) == 6 and left(tmp_path) == [], "no whole piece, no part"
    hub.cuts = [30720, *[5000] * 99]
    with pytest.raises(FetchError, match=r"30720 bytes are kept, try again and it goes on from there"):
        get(tmp_path, kind=kind)
    assert left(tmp_path) == [".a.zip.download"]
    hub.cuts = []
    hub.sent.clear()
    assert get(tmp_path, kind=kind).commit == COMMIT
    assert hub.sent == [(30720, len(BODY))] and (tmp_path / "a.zip").read_bytes() == BODY


def test_a_part_of_another_file_is_not_gone_on_from_for_ever(hub, tmp_path):
    part = tmp_path / ".a.zip.download"
    part.write_bytes(b"x" * (len(BODY) + 1))
    get(tmp_path, **PINNED)
    assert (tmp_path / "a.zip").read_bytes() == BODY, "one that is too long is of another file"
    (tmp_path / "a.zip").unlink()
    part.write_bytes(b"x" * 20480)
    with pytest.raises(FetchError, match=rf"o/n/a.zip: checksum differs .*expected {SHA}.*thrown away"):
        get(tmp_path)
    assert left(tmp_path) == []


def test_when_the_hub_breaks_the_second_address_serves_and_its_part_goes(hub, tmp_path):
    hub.cuts = [30720, *[5000] * 6]
    hub.second = {"a.zip": BODY}
    assert get(tmp_path, second=f"{hub.second_url}a.zip") == (f"{hub.second_url}a.zip", "")
    assert left(tmp_path) == ["a.zip"] and (tmp_path / "a.zip").read_bytes() == BODY
    assert {each.authorization for each in hub.asked} == {None}


def test_a_token_goes_to_the_hub_alone(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    hub.second, hub.files = {"a.zip": BODY}, {}
    get(tmp_path, second=f"{hub.second_url}a.zip")
    assert [each.authorization for each in hub.asked] == ["Bearer hf_mine", None]
