"""Weights by name from a local hub: downloads are verified, pinned and saved, or rejected."""

import dataclasses
import hashlib

import huggingface_hub
import pytest
import torch
from support.data import names_in
from support.hub import COMMIT, hub_of
from support.models import pyiqa_file

from liqe_core import LIQE, PromptGrid, checkpoints
from liqe_core.checkpoints import CheckpointError, first_sight
from liqe_core.files import file_sha256

MIX = "liqe_mix.pt"
ON_HUB = f"{checkpoints.HUB}/{MIX}"


@pytest.fixture
def hub(openai_state, openai_small, tmp_path, monkeypatch):
    """A local hub with both files in both places; the current folder and the cache are empty."""
    for name, published in list(checkpoints.PUBLISHED.items()):
        small = dataclasses.replace(published, architecture=openai_small)
        monkeypatch.setitem(checkpoints.PUBLISHED, name, small)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    files = {MIX: pyiqa_file(openai_state), "liqe_koniq.pt": pyiqa_file(openai_state)}
    with hub_of({f"{checkpoints.HUB}/{name}": content for name, content in files.items()}) as hub:
        monkeypatch.setattr(checkpoints, "SECOND", hub.second_url)
        hub.second = files
        yield hub


@pytest.fixture
def kept(tmp_path):
    """Where the file goes."""
    return tmp_path / "cache" / "weights" / MIX


# ---- downloads ----------------------------------------------------------------------------------------


def test_the_model_of_quality_alone_brings_its_grid(hub):
    assert LIQE.from_checkpoint("official-koniq").grid == PromptGrid.variant("quality")


def test_the_first_use_downloads_and_later_ones_work_offline(hub, kept, openai_state, capfd):
    model = LIQE.from_checkpoint("official")
    assert model.grid == PromptGrid()
    for key, value in model.clip.state_dict().items():
        assert torch.equal(value, openai_state[key].half().float()), key
    sha256, printed = file_sha256(kept), capfd.readouterr()
    assert kept.read_bytes() == hub.files[ON_HUB] and printed.out == ""
    assert sha256 in printed.err and f"{hub.url}/{checkpoints.HUB}/resolve/{COMMIT}/{MIX}" in printed.err
    assert printed.err.count("CC BY-NC-SA") == 1
    assert first_sight(kept)["sha256"] == sha256
    hub.asked.clear()
    LIQE.from_checkpoint("official")
    assert hub.asked == [] and capfd.readouterr().err == ""


def test_training_may_start_from_them(hub, openai_small, monkeypatch):
    monkeypatch.setattr("liqe_core.towers.architecture", lambda name: openai_small)
    model = LIQE.from_clip("small", "official", grid=PromptGrid.variant("quality"))
    assert torch.equal(model.clip.visual.proj, LIQE.from_checkpoint("official").clip.visual.proj)


@pytest.mark.parametrize("status", [403, 503])
def test_the_second_source_serves_when_the_hub_does_not(hub, kept, status, capfd):
    hub.status = status
    LIQE.from_checkpoint("official")
    assert kept.read_bytes() == hub.second[MIX]
    assert f"from {hub.second_url}{MIX}" in capfd.readouterr().err


def test_a_damaged_file_is_downloaded_from_the_second_source(hub, kept):
    content = hub.files[ON_HUB]
    hub.files[ON_HUB], hub.tags[ON_HUB] = b"x" + content[1:], hashlib.sha256(content).hexdigest()
    LIQE.from_checkpoint("official")
    assert kept.read_bytes() == hub.second[MIX]


# ---- pinned -------------------------------------------------------------------------------------------


def test_other_weights_than_at_first_use_are_rejected(hub, kept, openai_state):
    LIQE.from_checkpoint("official")
    before, record = file_sha256(kept), kept.with_suffix(".json")
    openai_state["ln_final.bias"] += 1
    kept.write_bytes(pyiqa_file(openai_state))
    now = file_sha256(kept)
    with pytest.raises(CheckpointError, match=rf"{MIX}: .*{now}.*{before}.*{record}"):
        LIQE.from_checkpoint("official")
    assert kept.exists(), "not ours to throw away"
    record.unlink()
    LIQE.from_checkpoint("official")
    assert first_sight(kept)["sha256"] == now


def test_other_weights_are_not_transferred_again_and_not_taken_from_the_second_source(
    hub, kept, openai_state
):
    LIQE.from_checkpoint("official")
    before = file_sha256(kept)
    kept.unlink()
    openai_state["ln_final.bias"] += 1
    hub.files[ON_HUB] = pyiqa_file(openai_state)
    hub.sent.clear()
    LIQE.from_checkpoint("official")
    assert file_sha256(kept) == before and len(hub.sent) == 1, "the second source has the known ones"
    kept.unlink()
    hub.second[MIX] = hub.files[ON_HUB]
    with pytest.raises(CheckpointError, match=before):
        LIQE.from_checkpoint("official")
    assert names_in(kept.parent) == ["liqe_mix.json"]


def test_the_commit_of_the_first_use_is_asked_for_again(hub, kept):
    LIQE.from_checkpoint("official")
    kept.unlink()
    hub.asked.clear()
    LIQE.from_checkpoint("official")
    assert hub.asked and all(f"/resolve/{COMMIT}/" in request.path for request in hub.asked)


# ---- rejected files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 503])
def test_the_error_names_both_sources_and_the_folder_for_the_file(hub, kept, status):
    hub.status = hub.second_status = status
    with pytest.raises(CheckpointError) as error:
        LIQE.from_checkpoint("official")
    assert error.match(rf"^official: {MIX} .* {hub.url}/{checkpoints.HUB}/\S+: HTTP {status}")
    assert error.match(rf"{hub.second_url}{MIX}: HTTP {status}.*{kept}")
    assert names_in(kept.parent) == []


def test_without_a_network(hub, kept, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=rf"^official: {MIX} .*HF_HUB_OFFLINE.*{kept}"):
        LIQE.from_checkpoint("official")
    assert hub.asked == []
    kept.write_bytes(hub.files[ON_HUB])  # as the error message advises
    LIQE.from_checkpoint("official")


PLACES = "positional_embedding"
REFUSED = {
    "page": (lambda s: b"<!DOCTYPE html>\n<html>log in</html>", "web page"),
    "cut": (lambda s: pyiqa_file(s)[:-1000], "checkpoint"),
    "NaN": (lambda s: pyiqa_file(s | {"ln_final.bias": s["ln_final.bias"] * torch.nan}), "ln_final.bias"),
    "another size": (lambda s: pyiqa_file(s | {PLACES: s[PLACES][:30].clone()}), PLACES),  # which fits itself
    "a part": (lambda s: pyiqa_file({"ln_final.bias": s["ln_final.bias"]}), "missing"),
}


@pytest.mark.parametrize("make, word", REFUSED.values(), ids=REFUSED.keys())
def test_a_download_of_other_weights_is_rejected_and_deleted(hub, kept, openai_state, make, word):
    good = hub.files[ON_HUB]
    hub.files[ON_HUB] = make(openai_state)
    with pytest.raises(CheckpointError, match=rf"^official: \S+{MIX}: .*{word}.*{hub.url}/"):
        LIQE.from_checkpoint("official")
    assert names_in(kept.parent) == [], "neither the file nor its checksum"
    hub.files[ON_HUB], hub.commit = good, "decaf" + 35 * "0"
    LIQE.from_checkpoint("official")


def test_a_users_file_of_other_weights_is_rejected_but_not_deleted(hub, kept):
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"<html>log in</html>")
    with pytest.raises(CheckpointError, match=str(kept)):
        LIQE.from_checkpoint("official")
    assert names_in(kept.parent) == [MIX] and hub.asked == []


def test_a_full_disk(hub, kept):
    """A limit on the size of files stands in for it: writing fails in the middle in the same way."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=rf"{kept}"):
            LIQE.from_checkpoint("official")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not kept.exists()
    assert not any("/second/" in request.path for request in hub.asked), "no source helps with that"
    LIQE.from_checkpoint("official")
