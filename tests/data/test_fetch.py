"""Downloads of datasets by name: small archives in the real layouts from a local hub, from the authors'
address, and by git."""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
from contextlib import ExitStack

import pytest
from huggingface_hub import constants
from support.data import content, names_in
from support.hub import LABELLED, archive, drawn, stand_in
from support.interrupting import Job, liqe

from liqe_core.data import archives, fetch
from liqe_core.data.fetch import fetch_dataset
from liqe_core.data.labels import read_labels
from liqe_core.data.manifest_fields import ArchiveFields, RepositoryFields
from liqe_core.data.manifests import TRAINING_SETS, available, load_manifest, sets_called
from liqe_core.data.presence import MissingImagesError
from liqe_core.data.tables import LabelError
from liqe_core.data.verification import status, verify
from liqe_core.intake.transfers import DiskFullError, FetchError


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Return a function that starts a local hub with some datasets."""
    with ExitStack() as stack:
        yield lambda *names, change=None: stack.enter_context(stand_in(tmp_path, monkeypatch, names, change))


def fetched(name, **options):
    return fetch_dataset(load_manifest(name), progress=False, **options)


def kept(tmp_path, name):
    """The archives of a dataset in the cache folder."""
    return names_in(tmp_path / "cache" / "archives" / name)


# ---- sizes --------------------------------------------------------------------------------------------


def test_names_of_groups():
    assert sets_called(["paper"]) == list(TRAINING_SETS)
    unseen = {"tid2013", "spaq", "pipal", "flive", "agiqa3k", "agiqa1k", "aigciqa2023", "sjtu_h3d"}
    assert unseen <= set(sets_called(["unseen"])) and not set(sets_called(["unseen"])) & set(TRAINING_SETS)
    assert sets_called(["csiq", "paper"])[:2] == ["csiq", "live"] and len(sets_called(["csiq", "paper"])) == 6


def test_plans_say_sizes_terms_and_sources(tmp_path):
    for name in TRAINING_SETS:
        plan = fetch.plan_fetch(load_manifest(name), tmp_path / "data")
        assert plan.transfer == load_manifest(name).hosted[0].bytes and plan.terms and not plan.done
    kadid10k = load_manifest("kadid10k")
    assert fetch.plan_fetch(kadid10k, tmp_path).source == "chaofengc/IQA-PyTorch-Datasets"
    direct = fetch.plan_fetch(fetch.without_hub(kadid10k), tmp_path)
    assert direct.source.startswith("https://datasets.vqa.mmsp-kn.de/") and direct.transfer is None
    assert "github.com/BIDS" in fetch.plan_fetch(load_manifest("open-distorted"), tmp_path).source
    for name in ("agiqa1k", "sjtu_h3d"):
        assert fetch.plan_fetch(load_manifest(name), tmp_path).source == ""


def test_every_hosted_dataset_is_pinned_but_the_one_without_known_checksums():
    hosted = [(name, file) for name in available() for file in load_manifest(name).hosted]
    assert all(file.bytes > 0 for _, file in hosted)
    unpinned = {name for name, file in hosted if not (file.revision and file.sha256)}
    assert unpinned == {"aigciqa2023"}


def test_disk_space_is_checked_for_one_archive_at_a_time(tmp_path, monkeypatch):
    def plans():
        return [fetch.plan_fetch(load_manifest(name), tmp_path / "data") for name in ("csiq", "kadid10k")]

    csiq, kadid = (load_manifest(name).hosted[0].bytes for name in ("csiq", "kadid10k"))
    usage = fetch.shutil.disk_usage(tmp_path)
    needed = csiq + 2 * kadid  # both unpacked, and the larger archive
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    room = fetch.check_room(plans(), tmp_path / "data")
    assert fetch.readable_size(needed) in room and "6.65GB more" in room, "and the size of decoded images"
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(FetchError, match="room"):
        fetch.check_room(plans(), tmp_path / "data")
    (tmp_path / "cache/archives/kadid10k").mkdir(parents=True)
    (tmp_path / "cache/archives/kadid10k/.kadid10k.tgz.0.download").write_bytes(b"x")
    assert plans()[1].transfer == kadid - 1
    fetch.check_room(plans(), tmp_path / "data")


# ---- from the hub -------------------------------------------------------------------------------------


def test_all_six_from_nothing_to_verified(tmp_path, sets):
    server = sets(*TRAINING_SETS)
    for name in TRAINING_SETS:
        manifest = load_manifest(name)
        folder = fetched(name)
        now = status(manifest)
        assert (now.state, now.found, now.case) == ("complete", len(LABELLED[name]), 0)
        assert set(content(folder)) - {"refnames_all.mat"} == set(LABELLED[name]), "only the labelled images"
        assert verify(manifest, progress=False).empty
    folders = {"databaserelease2", "CSIQ", "kadid10k", "BID", "ChallengeDB_release", "koniq-10k"}
    assert set(names_in(tmp_path / "data")) == folders, "no other files are left"
    assert names_in(tmp_path / "cache" / "archives") == [], "archives are deleted when they are in place"
    pinned = [load_manifest(name).hosted[0] for name in TRAINING_SETS]
    assert {request.path for request in server.asked} == {
        f"/datasets/{file.repository}/resolve/{file.revision}/{file.file}" for file in pinned
    }
    assert read_labels("live")["reference"].notna().all(), "the map of references came along"
    image = LABELLED["koniq10k"][0]
    assert (tmp_path / "data/koniq-10k" / image).read_bytes() == drawn(image, 1024, 768), "not 512 x 384"
    requests = len(server.asked)
    fetched("csiq")
    assert len(server.asked) == requests, "existing files are not requested"


def test_a_dataset_with_labels_from_another_source(sets):
    server = sets("agiqa3k")
    table = b"name,mos_quality\nAttnGAN_normal_000.jpg,0.9\nsd1.5_normal_001.jpg,3.1\n"
    server.second["data.csv"] = table
    manifest = load_manifest("agiqa3k")
    file = manifest.files[0].model_copy(update={"url": f"{server.second_url}data.csv"})
    manifest = manifest.model_copy(update={"files": [file]})
    with pytest.raises(FetchError, match=r"data\.csv.*checksum"):
        fetch_dataset(manifest, progress=False)
    file = file.model_copy(update={"sha256": hashlib.sha256(table).hexdigest()})
    manifest = manifest.model_copy(update={"files": [file]})
    folder = fetch_dataset(manifest, progress=False)
    assert set(content(folder)) == {"data.csv", "AttnGAN_normal_000.jpg", "sd1.5_normal_001.jpg"}
    assert status(manifest).state == "complete"


def test_a_dataset_whose_labels_are_a_file_of_the_hub(tmp_path, sets):
    server, file = sets("aigciqa2023"), "IntMeGroup/AIGCIQA2023/AIGIQA2023.json"
    right = server.files[file]
    server.files[file] = right.replace(b'"img": "', b'"img": "../../')
    with pytest.raises(FetchError, match="leave"):
        fetched("aigciqa2023")
    assert names_in(tmp_path / "data") == []
    server.files[file] = right
    folder = fetched("aigciqa2023")
    assert set(content(folder)) == {"AIGIQA2023.json", "0_DALLE_000.png", "1_Glide_000.png"}
    assert read_labels("aigciqa2023")["mos"].tolist() == [51.5, 40.0]


# ---- an archive with the right checksum is kept until its dataset is complete ---------------------------


def without(word):
    return lambda _, held: {name: body for name, body in held.items() if word not in name}


def with_member(name, body=b"x"):
    return lambda _, held: held | {name: body}


def renamed(old, new):
    return lambda _, held: {name.replace(old, new): body for name, body in held.items()}


WHOLE, MISSING, HALF = LABELLED["csiq"][0], LABELLED["csiq"][3], LABELLED["koniq10k"][1]


def in_folders_of_the_labels(name, _):
    return {f"a/{image}": drawn(image) for image in LABELLED[name]}


def in_one_folder(_, held):
    return {name.rsplit("/")[-1]: body for name, body in held.items()}


def with_one_elsewhere(_, held):
    return {("x/y/img55.bmp" if "jp2k/img55" in name else name): body for name, body in held.items()}


TWIN, SMALL = f"CSIQ/small/{WHOLE.rsplit('/')[-1]}", drawn(HALF, 512, 384)
#: Variants of an archive that are unpacked completely.
VARIANTS = {
    "two top folders": ("kadid10k", renamed("kadid10k/", "data/KADID/")),
    "image folder in another case": ("clive", renamed("Images/", "images/")),
    "no image folder": ("bid", renamed("bid/", "")),
    "folders of the labels": ("csiq", in_folders_of_the_labels),
    "names in another case": ("kadid10k", renamed("images/I", "images/i")),
    "backslashes": ("koniq10k", renamed("/", "\\")),
    "one more size": ("koniq10k", with_member(HALF.replace("1024x768", "k/256x192"))),
    "an unwanted file twice": ("clive", with_member("livec/data/allmos_release.mat")),
    "an unwanted path that climbs out": ("clive", with_member("../../out.txt")),
    "no table of references": ("live", without("refnames_all")),
    "labels in another folder": ("tid2013", renamed("tid2013/mos", "tid2013/doc/mos")),
}
#: Variants that are rejected, with the error and a word of its message.
REFUSED = {
    "an image missing": ("tid2013", without("i01_01_3.bmp"), MissingImagesError, "I01_01_3.bmp"),
    "an image in a wrong folder": ("live", with_one_elsewhere, MissingImagesError, "jp2k/img55"),
    "an image in two folders": ("csiq", with_member(TWIN), FetchError, WHOLE),
    "an image twice but for case": ("bid", with_member("BID/databaseimage0101.jpg"), FetchError, "0101"),
    "one of another size": ("koniq10k", with_member(f"koniq10k/{HALF}", SMALL), FetchError, f"{HALF} is 512"),
    "another size alone": ("koniq10k", without("1024x768"), FetchError, "is 512 x 384"),
    "flat, where names repeat": ("live", in_one_folder, FetchError, "ambiguous"),
    "another dataset": ("bid", lambda *_: {"photos/1.jpg": b"x"}, FetchError, "photos"),
    "no labels": ("tid2013", without("mos_with_names"), LabelError, "mos_with_names.txt"),
}


@pytest.mark.parametrize(("name", "change"), VARIANTS.values(), ids=VARIANTS)
def test_a_variant_of_an_archive_is_unpacked_completely(tmp_path, sets, name, change):
    sets(name, change=change)
    folder = fetched(name)
    now = status(load_manifest(name))
    assert (now.state, now.found, now.case) == ("complete", len(LABELLED[name]), 0)
    assert kept(tmp_path, name) == []
    assert not list(tmp_path.rglob("out.txt")) and len(content(folder)) <= now.found + 1


@pytest.mark.parametrize(("name", "change", "error", "word"), REFUSED.values(), ids=REFUSED)
def test_a_rejected_archive_is_kept_and_named(tmp_path, sets, name, change, error, word):
    server = sets(name, change=change)
    (hosted,) = load_manifest(name).hosted
    archive = tmp_path / "cache/archives" / name / hosted.file
    for _ in range(2):
        with pytest.raises(error, match=re.escape(word)) as refused:
            fetched(name)
        assert str(archive) in str(refused.value) and "\n" not in str(refused.value)
        assert names_in(tmp_path / "data") == [] and archive.is_file()
    assert len(server.sent) == 1, "a second call does not transfer it again"


def test_existing_images_can_be_used(tmp_path, sets):
    server = sets("csiq", change=without(MISSING.rsplit("/")[-1]))
    with pytest.raises(MissingImagesError):
        fetched("csiq")
    (hosted,) = load_manifest("csiq").hosted
    partial_archive = {"hosted": [hosted.model_copy(update={"partial": True})]}
    fetch_dataset(load_manifest("csiq").model_copy(update=partial_archive), progress=False)
    assert len(server.sent) == 1 and kept(tmp_path, "csiq") == []
    (tmp_path / "data/CSIQ" / WHOLE).unlink()
    fetched("csiq", missing="skip")
    assert len(server.sent) == 2
    now = status(load_manifest("csiq"))
    assert (now.state, now.found) == ("partly there", 17) and MISSING in now.next
    problems = verify(load_manifest("csiq"), progress=False)
    assert problems[["image", "problem"]].values.tolist() == [[MISSING, "missing"]]
    with pytest.raises(ValueError, match="missing"):
        fetched("csiq", missing="some")


def test_a_disk_that_is_full_while_unpacking_keeps_the_archive_and_the_next_call_goes_on(
    tmp_path, sets, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    server = sets("csiq")
    with monkeypatch.context() as context:
        context.setattr(archives.shutil, "copyfileobj", full)
        with pytest.raises(DiskFullError, match=r"the disk is full; free some space.*/csiq\.tgz$"):
            fetched("csiq")
    assert names_in(tmp_path / "data") == [] and kept(tmp_path, "csiq") == ["csiq.tgz"]
    assert set(content(fetched("csiq"))) == set(LABELLED["csiq"]) and len(server.sent) == 1


def test_a_killed_download_is_resumed(tmp_path, sets):
    server = sets("koniq10k", change=with_member("koniq10k/notes.txt", os.urandom(300_000)))
    patches = {"huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE": 10240}
    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
        patches[f"huggingface_hub.constants.{name}"] = getattr(constants, name)
    job = Job(liqe, ("data", "fetch", "koniq10k", "--yes", "--quiet"), tmp_path / "log", patches=patches)
    (body,), server.pace = server.files.values(), 0.05

    def part():
        return next(tmp_path.glob("cache/archives/koniq10k/.*.download"), None)

    assert job.ended_by(signal.SIGKILL, lambda: part() and part().stat().st_size > 50_000) == -signal.SIGKILL
    transferred, server.pace = part().stat().st_size, 0
    # The first call puts the archive in place, and 16 unpack the images.
    assert job.killed_at("os.replace", 9) == -signal.SIGKILL
    assert kept(tmp_path, "koniq10k") == ["koniq10k.tgz"] and not (tmp_path / "data/koniq-10k").exists()
    # The archive exists; 16 calls unpack the images, and 16 move them to the new folder.
    assert job.killed_at("os.replace", 20) == -signal.SIGKILL
    assert kept(tmp_path, "koniq10k") == ["koniq10k.tgz"]
    assert len(content(tmp_path / "data/koniq-10k")) == 3 and status(load_manifest("koniq10k")).found == 3
    assert set(content(fetched("koniq10k"))) == set(LABELLED["koniq10k"])
    assert [start for start, _ in server.sent] == [0, transferred] and server.sent[1][1] == len(body)
    assert verify(load_manifest("koniq10k"), progress=False).empty and names_in(tmp_path / "data") == [
        "koniq-10k"
    ]


def test_existing_images_are_kept_and_broken_ones_are_replaced(tmp_path, sets):
    sets("csiq")
    manifest = load_manifest("csiq")
    folder = fetched("csiq")
    mine, broken, gone = (folder / image for image in LABELLED["csiq"][:3])
    mine.write_bytes(drawn("mine.png"))
    mine = mine.rename(mine.with_name(mine.name.upper()))
    (folder / "notes.txt").write_text("mine")
    broken.write_bytes(b"torn")
    gone.unlink()
    verify(manifest, progress=False)
    assert status(manifest).state == "corrupt" and status(manifest).next.startswith("liqe data fetch csiq")
    fetched("csiq")
    assert mine.read_bytes() == drawn("mine.png") and (folder / "notes.txt").read_text() == "mine"
    assert broken.read_bytes() == drawn(LABELLED["csiq"][1]) and gone.is_file()
    assert verify(manifest, progress=False)["problem"].tolist() == ["name differs in case"]
    assert names_in(tmp_path / "data") == ["CSIQ"]


def test_an_archive_that_was_got_by_hand(tmp_path, sets):
    server = sets("live")
    (body,) = server.files.values()
    manifest, mine = load_manifest("live"), tmp_path / "live.tgz"
    assert fetch.is_hub_archive(manifest, mine) and not fetch.is_hub_archive(manifest, tmp_path / "mine.tgz")
    mine.write_bytes(body + b"x")
    with pytest.raises(FetchError, match="SHA-256"):
        fetched("live", source=mine)
    with pytest.raises(FetchError, match=r"none\.tgz"):
        fetched("live", source=tmp_path / "none.tgz")
    mine.write_bytes(body)
    fetched("live", source=mine)
    assert status(manifest).state == "complete" and server.asked == [] and mine.is_file()


# ---- from the authors' own address, and archives of one's own -------------------------------------------


def zipped(path, content):
    path.write_bytes(archive(path.name, content))
    return path


def test_archives_at_an_address_of_their_own(tmp_path, sets):
    server = sets("koniq10k")
    whole = {image: drawn(image, 1024, 768) for image in LABELLED["koniq10k"]}
    body = zipped(tmp_path / "k.zip", whole).read_bytes()
    manifest = fetch.without_hub(load_manifest("koniq10k"))
    address = ArchiveFields.model_construct(name="k.zip", url=f"{server.second_url}k.zip")
    manifest = manifest.model_copy(update={"archives": [address]})
    server.second["k.zip"] = body[: len(body) // 2]
    with pytest.raises(FetchError, match="damaged"):
        fetch_dataset(manifest, progress=False)
    assert kept(tmp_path, "koniq10k") == [], "whose checksum is not known is fetched anew when damaged"
    server.second["k.zip"] = zipped(tmp_path / "l.zip", dict(list(whole.items())[1:])).read_bytes()
    with pytest.raises(MissingImagesError, match=r"k\.zip"):
        fetch_dataset(manifest, progress=False)
    assert kept(tmp_path, "koniq10k") == ["k.zip"] and names_in(tmp_path / "data") == []
    fetch_dataset(manifest, source=tmp_path / "k.zip", progress=False)
    assert status(manifest).state == "complete"


def test_a_users_archive_with_any_folders(tmp_path, sets):
    sets("kadid10k")
    images = LABELLED["kadid10k"]
    held = {f"mine/{image.upper()}": drawn(image, 512, 384) for image in images} | {"mine/notes.txt": b"x"}
    mine = zipped(tmp_path / "a.zip", held)
    folder = fetch.unpack_dataset(load_manifest("kadid10k"), mine, tmp_path / "data", None, progress=False)
    assert set(content(folder)) == set(images) and status(load_manifest("kadid10k")).state == "complete"


# ---- by git -------------------------------------------------------------------------------------------

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

BOTH = {"one/a.jpg": b"a", "one/below/b (1).JPG": b"b" * 50, "two/c.jpg": b"c", "two/e/d.jpg": b"d"}
#: For each repository: the files that are used, their folder, and the other files.
REPOSITORIES = {
    "first": ("data/photos", "one", ["data/other/no.jpg", "data/photos-more/no.jpg", "a.jpg"]),
    "second": ("", "two", []),
}


def git(folder, *arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clones(tmp_path):
    """Clones of two repositories, the second bare, and a manifest that takes a folder of the first and all of
    the second, at an older commit of each."""
    pinned = []
    for name, (path, into, more) in REPOSITORIES.items():
        folder = tmp_path / "clones" / "owner" / name
        files = {f"{path}/{n.removeprefix(into)}": body for n, body in BOTH.items() if n.startswith(into)}
        folder.mkdir(parents=True)
        git(folder, "init", "-q")
        git(folder, "config", "core.autocrlf", "false")
        for added in (files | dict.fromkeys(more, b"no"), {"later.jpg": b"later"}):
            for file, body in added.items():
                target = folder / file.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(body)
            git(folder, "add", ".")
            git(folder, "commit", "-qm", "more")
        address, commit = f"https://127.0.0.1/owner/{name}", git(folder, "rev-parse", "HEAD^")
        pinned.append(RepositoryFields(url=address, commit=commit, into=into, path=path))
    bare = folder.with_suffix(".git")
    git(tmp_path, "clone", "-q", "--bare", str(folder), str(bare))
    shutil.rmtree(folder)
    manifest = load_manifest("scenes")
    return tmp_path / "clones", manifest.model_copy(update={"repositories": pinned})


@needs_git
def test_several_repositories_each_at_its_commit(tmp_path, clones):
    source, manifest = clones
    folder = fetch_dataset(manifest, tmp_path / "data", source, progress=False)
    assert folder == tmp_path / "data" / "scenes" and content(folder) == BOTH
    assert names_in(tmp_path / "data") == ["scenes"] and kept(tmp_path, manifest.name) == []
    (folder / "one" / "a.jpg").write_bytes(b"mine")
    (folder / "two" / "c.jpg").unlink()
    fetch_dataset(manifest, tmp_path / "data", source, progress=False)
    assert content(folder) == BOTH | {"one/a.jpg": b"mine"}, "existing files stay, missing files are added"


@needs_git
def test_a_missing_clone_is_named_and_the_next_call_resumes(tmp_path, clones):
    source, manifest = clones
    second = source / "owner" / "second.git"
    second.rename(tmp_path / "away")
    with pytest.raises(FetchError, match=r"https://127.0.0.1/owner/second"):
        fetch_dataset(manifest, tmp_path / "data", source, progress=False)
    assert names_in(tmp_path / "data") == [] and len(kept(tmp_path, manifest.name)) == 1
    (tmp_path / "away").rename(second)
    shutil.rmtree(source / "owner" / "first")
    assert content(fetch_dataset(manifest, tmp_path / "data", source, progress=False)) == BOTH


@needs_git
@pytest.mark.parametrize(
    ("change", "word"), [({"commit": "0" * 40}, ""), ({"path": "data/photographs"}, "photographs")]
)
def test_one_repository_at_an_address_and_a_commit_or_folder_that_it_has_not(tmp_path, clones, change, word):
    source, manifest = clones
    source, first = f"file://{source / 'owner' / 'first'}", manifest.repositories[0]
    wrong = manifest.model_copy(update={"repositories": [first.model_copy(update=change)]})
    with pytest.raises(FetchError, match=rf"owner/first: git .*{word}"):
        fetch_dataset(wrong, tmp_path / "data", source, progress=False)
    assert names_in(tmp_path / "data") == []
    right = manifest.model_copy(update={"repositories": [first]})
    folder = fetch_dataset(right, tmp_path / "data", source, progress=False)
    assert content(folder) == {name: body for name, body in BOTH.items() if name.startswith("one/")}


def test_missing_git_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(FetchError, match="git"):
        fetch_dataset(load_manifest("biq2021"), tmp_path, progress=False)
