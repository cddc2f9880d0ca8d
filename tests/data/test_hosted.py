"""Data sets by name, against a stand-in for the hub that serves small archives in the real layouts."""

import errno
import hashlib
import json
import shutil
from contextlib import ExitStack

import pytest
from support.hub import LABELLED, archive, drawn, members, stand_in

from liqe_core.data import hosted
from liqe_core.data.fetch import fetch_dataset, unpack_dataset
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import TRAINING_SETS, load_manifest
from liqe_core.data.presence import status
from liqe_core.data.verification import verify
from liqe_core.intake import hub
from liqe_core.intake.hub import FetchError


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Gives a function that starts a stand-in with some sets."""
    with ExitStack() as stack:
        yield lambda *names, change=None: stack.enter_context(stand_in(tmp_path, monkeypatch, names, change))


def fetch(name, **options):
    return fetch_dataset(load_manifest(name), progress=False, **options)


def content(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def nothing_left(tmp_path, name):
    """Neither in the place of the data sets, nor of the archives."""
    data, store = tmp_path / "data", tmp_path / "cache" / "archives" / name
    return not (data.exists() and list(data.iterdir())) and not store.exists()


def test_all_six_from_nothing_to_verified(tmp_path, sets):
    server = sets(*TRAINING_SETS)
    for name in TRAINING_SETS:
        manifest = load_manifest(name)
        folder = fetch(name)
        now = status(manifest)
        assert (now.state, now.found, now.case) == ("complete", len(LABELLED[name]), 0)
        assert content(folder) - {"refnames_all.mat"} == set(LABELLED[name]), "only what the labels name"
        assert verify(manifest, progress=False).empty
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == sorted(
        ["databaserelease2", "CSIQ", "kadid10k", "BID", "ChallengeDB_release", "koniq-10k"]
    ), "nothing is left beside them"
    assert not list((tmp_path / "cache" / "archives").iterdir()), "archives are gone when they are in place"
    asked = {each.path for each in server.asked}
    pinned = [load_manifest(name).hosted[0] for name in TRAINING_SETS]
    assert asked == {f"/datasets/{of['repository']}/resolve/{of['revision']}/{of['file']}" for of in pinned}
    assert read_labels("live")["reference"].notna().all(), "the map of references came along"
    requests = len(server.asked)
    fetch("csiq")
    assert len(server.asked) == requests, "what is there is not asked for"


def test_the_set_of_the_labels_size_is_taken(tmp_path, sets):
    sets("koniq10k")
    folder = fetch("koniq10k")
    assert content(folder) == set(LABELLED["koniq10k"])
    assert (folder / LABELLED["koniq10k"][0]).read_bytes() == drawn(LABELLED["koniq10k"][0], 1024, 768)


def test_a_set_whose_labels_lie_in_its_archive(tmp_path, sets):
    sets("tid2013")
    assert content(fetch("tid2013")) == {
        "mos_with_names.txt",
        *(f"distorted_images/{n}" for n in ("I01_01_1.bmp", "i01_02_3.bmp", "I25_24_5.bmp")),
    }
    now = status(load_manifest("tid2013"))
    assert (now.state, now.found, now.case) == ("complete", 3, 1)


def test_labels_from_elsewhere(tmp_path, sets, monkeypatch):
    sets("agiqa3k")
    table = b"name,mos_quality\nAttnGAN_normal_000.jpg,0.9\nsd1.5_normal_001.jpg,3.1\n"

    def download(url, path, sha256=None, progress=True):
        assert url.startswith("https://raw.githubusercontent.com/lcysyzxdxc/AGIQA-3k-Database/") and sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(table)
        return path

    monkeypatch.setattr(hosted, "download", download)
    assert content(fetch("agiqa3k")) == {"data.csv", "AttnGAN_normal_000.jpg", "sd1.5_normal_001.jpg"}
    assert status(load_manifest("agiqa3k")).state == "complete"


def test_an_unknown_checksum_is_kept_at_first_sight_and_a_change_refused(tmp_path, sets):
    server = sets("aigciqa2023")
    folder = fetch("aigciqa2023")
    assert content(folder) == {"AIGIQA2023.json", "0_DALLE_000.png", "1_Glide_000.png"}
    table = read_labels("aigciqa2023")
    assert table["mos"].tolist() == [51.5, 40.0]
    kept = [json.loads(p.read_text()) for p in (tmp_path / "cache" / "checksums").iterdir()]
    body = server.files["IntMeGroup/AIGCIQA2023/allimg.zip"]
    assert {"IntMeGroup/AIGCIQA2023/allimg.zip", "IntMeGroup/AIGCIQA2023/AIGIQA2023.json"} == {
        k["source"] for k in kept
    }
    assert hashlib.sha256(body).hexdigest() in {k["sha256"] for k in kept}
    shutil.rmtree(folder)
    server.files["IntMeGroup/AIGCIQA2023/allimg.zip"] = archive("a.zip", members("aigciqa2023") | {"x": b"x"})
    with pytest.raises(FetchError, match=r"allimg.zip: checksum differs .*at first sight here .*delete "):
        fetch("aigciqa2023")
    assert nothing_left(tmp_path, "aigciqa2023")


def test_another_file_than_the_known_one_is_refused_before_it_is_transferred(tmp_path, sets):
    server = sets("csiq")
    (source,) = server.files
    server.files[source] += b"more"
    with pytest.raises(FetchError, match=r"csiq\.tgz: checksum differs \(the hub has SHA-256 .*expected"):
        fetch("csiq")
    assert server.sent == [] and nothing_left(tmp_path, "csiq")


def test_content_that_is_not_what_the_hub_says_is_thrown_away(tmp_path, sets):
    server = sets("csiq")
    (source,) = server.files
    server.tags[source] = hashlib.sha256(server.files[source]).hexdigest()
    server.files[source] = server.files[source][:-1] + b"!"
    with pytest.raises(
        FetchError, match=r"csiq\.tgz: checksum differs \(SHA-256 .*thrown away, fetch it again"
    ):
        fetch("csiq")
    assert nothing_left(tmp_path, "csiq")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            401,
            r"csiq\.tgz: refused \(HTTP 401\); accept the terms on https://huggingface\.co/datasets/.*HF_TOKEN",
        ),
        (403, r"csiq\.tgz: refused \(HTTP 403\)"),
        (404, r"csiq\.tgz: not there \(HTTP 404\); it was moved or removed, look on https://"),
        (429, r"csiq\.tgz: too many requests \(HTTP 429\); wait some minutes"),
        (500, r"csiq\.tgz: the server failed \(HTTP 500\); try again later"),
    ],
)
def test_a_hub_that_refuses(tmp_path, sets, code, says):
    server = sets("csiq")
    server.status = code
    with pytest.raises(FetchError, match=says) as error:
        fetch("csiq")
    assert "\n" not in str(error.value), "one sentence"
    assert nothing_left(tmp_path, "csiq")
    if code == 429:
        assert len(server.asked) == 6, "it waited and asked again"
    server.status = 0
    fetch("csiq")
    assert status(load_manifest("csiq")).state == "complete"


def test_no_network_and_offline(tmp_path, sets, monkeypatch):
    from huggingface_hub import constants

    server = sets("csiq")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match=r"csiq\.tgz: not tried, since HF_HUB_OFFLINE is set; unset it"):
        fetch("csiq")
    assert server.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    nowhere = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    with pytest.raises(FetchError, match=r"csiq\.tgz: no connection, or it broke \(.*\); check the network"):
        fetch("csiq")
    assert nothing_left(tmp_path, "csiq")


def test_a_token_is_sent(sets, monkeypatch):
    server = sets("csiq")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    fetch("csiq")
    assert {each.authorization for each in server.asked} == {"Bearer hf_mine"}


def test_a_full_disk_in_the_transfer(tmp_path, sets, monkeypatch):
    sets("csiq")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(hub.os, "fsync", full)
        with pytest.raises(FetchError, match=r"csiq\.tgz.*the disk is full .*what was written is removed"):
            fetch("csiq")
        assert nothing_left(tmp_path, "csiq")


def test_a_full_disk_in_unpacking(tmp_path, sets, monkeypatch):
    server = sets("csiq")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("liqe_core.data.archives._write", full)
        with pytest.raises(FetchError, match=r"CSIQ.*the disk is full .*what was written is removed"):
            fetch("csiq")
    assert not list((tmp_path / "data").iterdir())
    sent = len(server.sent)
    fetch("csiq")
    assert len(server.sent) == sent, "the whole archive was kept"


def without(image):
    return lambda name, held: {m: b for m, b in held.items() if not m.endswith(image.rsplit("/", 1)[-1])}


def test_an_archive_without_a_picture_that_the_labels_name(tmp_path, sets):
    lacking = LABELLED["csiq"][3]
    server = sets("csiq", change=without(lacking))
    with pytest.raises(
        FetchError, match=rf"csiq\.tgz: 1 of 12 pictures named .* \({lacking}\); nothing was put"
    ):
        fetch("csiq")
    assert not list((tmp_path / "data").iterdir())
    sent = len(server.sent)
    fetch("csiq", missing="skip")
    assert len(server.sent) == sent, "the archive was whole, and kept for that"
    now = status(load_manifest("csiq"))
    assert (now.state, now.found) == ("partly there", 11) and f"1 pictures: {lacking}" in now.next
    problems = verify(load_manifest("csiq"), progress=False)
    assert problems[["image", "problem"]].values.tolist() == [[lacking, "missing"]]


def test_a_set_with_its_own_labels_that_lacks_a_picture(tmp_path, sets):
    sets("tid2013", change=without("i01_02_3.bmp"))
    with pytest.raises(FetchError, match=r"tid2013\.tgz: 1 of 3 pictures .*distorted_images/I01_02_3\.bmp"):
        fetch("tid2013")
    assert not list((tmp_path / "data").iterdir())


def test_a_picture_of_the_other_size(tmp_path, sets):
    image = LABELLED["koniq10k"][1]
    sets("koniq10k", change=lambda _, held: held | {f"koniq10k/{image}": drawn(image, 512, 384)})
    says = rf"koniq10k\.tgz: 1 of 4 pictures are not 1024 x 768 \({image} is 512 x 384\).*koniq-10k-database"
    with pytest.raises(FetchError, match=says):
        fetch("koniq10k")
    assert nothing_left(tmp_path, "koniq10k")


def test_the_other_size_alone_is_not_taken_for_it(tmp_path, sets):
    sets("koniq10k", change=lambda _, held: {m: b for m, b in held.items() if "512x384" in m})
    with pytest.raises(FetchError, match=r"no koniq10k/1024x768 in it \(koniq10k/512x384\)"):
        fetch("koniq10k")
    assert nothing_left(tmp_path, "koniq10k")


@pytest.mark.parametrize("bad", ["../out.png", "/etc/out.png", "CSIQ/dst_imgs/../../../out.png"])
def test_a_member_that_climbs_out(tmp_path, sets, bad):
    sets("csiq", change=lambda _, held: held | {bad: b"x"})
    with pytest.raises(FetchError, match="would leave the folder; nothing was unpacked"):
        fetch("csiq")
    assert nothing_left(tmp_path, "csiq") and not list(tmp_path.rglob("out.png"))


def test_a_label_that_climbs_out(tmp_path, sets, monkeypatch):
    sets("aigciqa2023")
    names = ["../../0_DALLE_000.png", "1_Glide_000.png"]
    monkeypatch.setattr(hosted, "_named", lambda *_: names)
    with pytest.raises(FetchError, match="would leave the folder"):
        fetch("aigciqa2023")
    assert nothing_left(tmp_path, "aigciqa2023")


def test_two_files_for_one_name_are_not_guessed_between(tmp_path, sets):
    name = LABELLED["csiq"][0].rsplit("/", 1)[-1]
    sets("csiq", change=lambda _, held: held | {f"CSIQ/dst_imgs/small/{name}": b"x"})
    with pytest.raises(FetchError, match=rf"{name} would both be dst_imgs/awgn/{name}"):
        fetch("csiq")
    assert nothing_left(tmp_path, "csiq")


def test_what_is_there_stays_and_what_is_broken_is_replaced(tmp_path, sets):
    sets("csiq")
    manifest = load_manifest("csiq")
    folder = fetch("csiq")
    mine, broken, gone = (folder / image for image in LABELLED["csiq"][:3])
    mine.write_bytes(drawn("mine.png"))
    (folder / "notes.txt").write_text("mine")
    broken.write_bytes(b"torn")
    gone.unlink()
    verify(manifest, progress=False)
    assert status(manifest).state == "corrupt" and status(manifest).next.startswith("liqe data fetch csiq")
    fetch("csiq")
    assert mine.read_bytes() == drawn("mine.png") and (folder / "notes.txt").read_text() == "mine"
    assert broken.read_bytes() == drawn(LABELLED["csiq"][1]) and gone.is_file()
    assert verify(manifest, progress=False)["problem"].tolist() == []
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["CSIQ"]


def test_killed_while_unpacking_it_goes_on(tmp_path, sets, monkeypatch):
    server = sets("csiq")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(hosted, "_compare", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch("csiq")
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".CSIQ.fetching"]
    sent = len(server.sent)
    fetch("csiq")
    assert len(server.sent) == sent and [p.name for p in (tmp_path / "data").iterdir()] == ["CSIQ"]


def test_an_archive_that_was_got_by_hand(tmp_path, sets):
    server = sets("live")
    (body,) = server.files.values()
    (tmp_path / "live.tgz").write_bytes(body)
    unpack_dataset(load_manifest("live"), tmp_path / "live.tgz", progress=False)
    assert status(load_manifest("live")).state == "complete" and server.asked == []
    assert (tmp_path / "live.tgz").is_file()
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "live.tgz").write_bytes(body + b"x")
    with pytest.raises(FetchError, match=r"not live\.tgz of chaofengc/.*SHA-256"):
        fetch("live", mirror=tmp_path / "live.tgz")
    assert (tmp_path / "live.tgz").is_file(), "a user's own stays"
