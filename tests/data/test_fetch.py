import dataclasses
import shutil
import subprocess
import zipfile

import pytest
from support.server import serving

from liqe_core.data.fetch import fetch_dataset, git_tree, unpack_dataset
from liqe_core.data.manifests import load_manifest
from liqe_core.intake.hub import FetchError

CONTENT = {
    "Images/ss01 (1).jpg": b"one",
    "Images/ss01 (2).JPG": b"two",
    "Train (Images and MOS).csv": b"Image Name,MOS,,\r\nss01 (1).jpg,0.5,,\r\n",
    "Test (Images and MOS).csv": b"Image Name,MOS\r\nss01 (2).jpg,0.6\r\n",
    "README.md": b"hello",
}

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))


def git(folder, *arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def committed(folder, files):
    """A new repository with those files, in one commit."""
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    git(folder, "init", "-q")
    git(folder, "config", "core.autocrlf", "false")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "pinned")


@pytest.fixture
def repository(tmp_path):
    """A repository with an older and a newer commit, and BIQ2021's manifest pinned to the older one."""
    folder = tmp_path / "repository"
    committed(folder, CONTENT)
    pinned = {
        "url": "https://127.0.0.1/none",
        "commit": git(folder, "rev-parse", "HEAD"),
        "tree": git(folder, "rev-parse", "HEAD^{tree}"),
        "archive": "https://127.0.0.1/none.zip",
    }
    (folder / "Images" / "later.jpg").write_bytes(b"later")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "newer")
    manifest = load_manifest("biq2021")
    return folder, dataclasses.replace(manifest, fields=dict(manifest.fields) | {"repository": pinned})


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@needs_git
def test_a_clone_on_this_machine_gives_the_pinned_commit(tmp_path, repository):
    clone, manifest = repository
    folder = fetch_dataset(manifest, tmp_path / "data", mirror=clone, progress=False)
    assert folder == tmp_path / "data" / "BIQ2021" and content(folder) == CONTENT
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["BIQ2021"], "nothing is left beside it"
    assert fetch_dataset(manifest, tmp_path / "data", mirror="nowhere", progress=False) == folder, (
        "it is there"
    )


@needs_git
def test_git_fetches_the_pinned_commit_alone(tmp_path, repository):
    clone, manifest = repository
    folder = fetch_dataset(manifest, tmp_path / "data", how="git", mirror=f"file://{clone}", progress=False)
    assert content(folder) == CONTENT


def archive_of(path, content, top="BIQ2021-1234/"):
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in content.items():
            archive.writestr(top + name, body)
    return path


@needs_git
def test_an_archive_as_a_web_server_makes_it(tmp_path, repository):
    _, manifest = repository
    body = archive_of(tmp_path / "a.zip", CONTENT).read_bytes()
    with serving({"a.zip": body}) as server:
        folder = fetch_dataset(manifest, tmp_path / "data", mirror=server.url + "a.zip", progress=False)
        assert content(folder) == CONTENT
    kept = fetch_dataset(manifest, tmp_path / "other", mirror=tmp_path / "a.zip", progress=False)
    assert content(kept) == CONTENT and (tmp_path / "a.zip").is_file(), "a user's own archive stays"


@needs_git
@pytest.mark.parametrize("change", [{"README.md": b"hallo"}, {"more.txt": b""}])
def test_content_that_is_not_the_commits_is_refused(tmp_path, repository, change):
    _, manifest = repository
    archive = archive_of(tmp_path / "a.zip", CONTENT | change)
    with pytest.raises(FetchError, match="not the content of commit"):
        fetch_dataset(manifest, tmp_path / "data", mirror=archive, progress=False)
    assert list((tmp_path / "data").iterdir()) == []


@needs_git
def test_something_else_in_the_place_is_not_touched(tmp_path, repository):
    clone, manifest = repository
    (tmp_path / "data" / "biq2021").mkdir(parents=True)
    (tmp_path / "data" / "biq2021" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(FetchError, match="there already, and not what commit"):
        fetch_dataset(manifest, tmp_path / "data", mirror=clone, progress=False)
    assert (tmp_path / "data" / "biq2021" / "mine.jpg").read_bytes() == b"mine"


@needs_git
def test_a_clone_without_the_commit_and_a_wrong_way(tmp_path, repository):
    clone, manifest = repository
    other = dict(manifest.fields["repository"]) | {"commit": "0" * 40}
    lacking = dataclasses.replace(manifest, fields={"repository": other})
    with pytest.raises(FetchError, match="git"):
        fetch_dataset(lacking, tmp_path / "data", mirror=clone, progress=False)
    with pytest.raises(ValueError, match="archive or git"):
        fetch_dataset(manifest, tmp_path / "data", how="carrier pigeon")


FIRST = {
    "data/photos/a.jpg": b"a",
    "data/photos/below/b.jpg": b"b" * 50,
    "data/other/no.jpg": b"another folder",
    "data/photos-more/no.jpg": b"a folder whose name begins the same",
    "a.jpg": b"not in it",
}
SECOND = {"c.jpg": b"c", "e/d.jpg": b"d"}
BOTH = {
    "one/a.jpg": b"a",
    "one/below/b.jpg": b"b" * 50,
    "two/c.jpg": b"c",
    "two/e/d.jpg": b"d",
}


@pytest.fixture
def clones(tmp_path):
    """Clones of two repositories, the second bare, and a manifest that takes a folder of the first and all of
    the second."""
    pinned = []
    for name, body, path, into in (("first", FIRST, "data/photos", "one"), ("second", SECOND, "", "two")):
        folder = tmp_path / "clones" / "owner" / name
        committed(folder, body)
        commit = git(folder, "rev-parse", "HEAD")
        url = f"https://127.0.0.1/owner/{name}"
        tree = git(folder, "rev-parse", f"HEAD:{path}")
        of = {"url": url, "commit": commit, "tree": tree, "archive": f"{url}.zip", "into": into}
        pinned.append(of | ({"path": path} if path else {}))
    bare = tmp_path / "clones" / "owner" / "second.git"
    git(tmp_path, "clone", "-q", "--bare", str(bare.with_suffix("")), str(bare))
    shutil.rmtree(bare.with_suffix(""))
    manifest = load_manifest("open-scenes")
    return tmp_path / "clones", dataclasses.replace(manifest, fields={"repository": pinned})


def one_of(manifest, **changes):
    """The manifest with its first repository alone, as an object."""
    return dataclasses.replace(manifest, fields={"repository": manifest.repositories[0] | changes})


@needs_git
def test_a_set_from_several_repositories(tmp_path, clones):
    mirror, manifest = clones
    folder = fetch_dataset(manifest, tmp_path / "data", mirror=mirror, progress=False)
    assert folder == tmp_path / "data" / "open-scenes" and content(folder) == BOTH
    assert sorted(p.name for p in folder.iterdir()) == ["one", "two"], "nothing is left beside them"
    times = [(folder / name).stat().st_ctime_ns for name in BOTH]
    fetch_dataset(manifest, tmp_path / "data", mirror=mirror, progress=False)
    assert [(folder / name).stat().st_ctime_ns for name in BOTH] == times, "they are there"
    (folder / "one" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"open-scenes/one: there already, and not what commit"):
        fetch_dataset(manifest, tmp_path / "data", mirror=mirror, progress=False)
    assert content(folder) == BOTH | {"one/a.jpg": b"mine"}


@needs_git
def test_a_clone_that_is_missing_is_named_and_the_next_call_goes_on(tmp_path, clones):
    mirror, manifest = clones
    second = mirror / "owner" / "second.git"
    second.rename(tmp_path / "away")
    with pytest.raises(FetchError, match=r"owner/second: no such clone.*https://127.0.0.1/owner/second"):
        fetch_dataset(manifest, tmp_path / "data", mirror=mirror, progress=False)
    (tmp_path / "away").rename(second)
    assert content(fetch_dataset(manifest, tmp_path / "data", mirror=mirror, progress=False)) == BOTH


@needs_git
def test_archives_of_several_repositories_as_a_web_server_makes_them(tmp_path, clones):
    _, manifest = clones
    files = {
        f"{name}.zip": archive_of(tmp_path / f"{name}.zip", body, f"{name}-0123/").read_bytes()
        for name, body in (("first", FIRST), ("second", SECOND))
    }
    with serving(files) as server:
        first, second = manifest.repositories
        pinned = [
            first | {"archive": server.url + "first.zip"},
            second | {"archive": server.url + "second.zip"},
        ]
        manifest = dataclasses.replace(manifest, fields={"repository": pinned})
        assert content(fetch_dataset(manifest, tmp_path / "data", progress=False)) == BOTH
        assert len(server.asked) == 2


def made_by_git(clone, archive, *what):
    git(clone, "archive", "-o", str(archive), "HEAD", *what)
    return archive


@needs_git
@pytest.mark.parametrize(
    "way",
    [
        lambda clone, tmp: clone,
        lambda clone, tmp: made_by_git(clone, tmp / "part.tar", "data/photos"),
        lambda clone, tmp: made_by_git(clone, tmp / "part.zip", "data/photos"),
        lambda clone, tmp: made_by_git(clone, tmp / "all.tar.gz"),
        lambda clone, tmp: archive_of(tmp / "web.zip", FIRST, "first-0123/"),
        lambda clone, tmp: archive_of(tmp / "web.zip", FIRST, "data-0123/"),
    ],
    ids=["clone", "git archive PATH", "the same as zip", "git archive", "web", "web, named as the folder"],
)
def test_only_the_folder_of_the_repository_is_taken(tmp_path, clones, way):
    mirror, manifest = clones
    source = way(mirror / "owner" / "first", tmp_path)
    folder = fetch_dataset(one_of(manifest), tmp_path / "data", mirror=source, progress=False)
    assert content(folder) == {name: body for name, body in BOTH.items() if name.startswith("one/")}
    assert source.exists(), "what was the user's own stays"


@needs_git
def test_git_fetches_the_folder_alone(tmp_path, clones):
    mirror, manifest = clones
    url = f"file://{mirror / 'owner' / 'first'}"
    folder = fetch_dataset(one_of(manifest), tmp_path / "data", "git", url, progress=False)
    assert content(folder) == {name: body for name, body in BOTH.items() if name.startswith("one/")}


@needs_git
@pytest.mark.parametrize(
    "change",
    [
        {"data/photos/a.jpg": None},
        {"data/photos/a.jpg": b"b"},
        {"data/photos/below/b.jpg": b"b" * 49},
        {"data/photos/more.jpg": b"more"},
        {"data/photos/a.jpg": None, "data/photos/below/b.jpg": None},
    ],
    ids=["missing", "changed", "truncated", "one more", "no such folder"],
)
def test_a_folder_that_is_not_the_commits_is_refused_and_fetched_again(tmp_path, clones, change):
    _, manifest = clones
    wrong = {name: body for name, body in (FIRST | change).items() if body is not None}
    mine = archive_of(tmp_path / "mine.zip", wrong, "first-0123/")
    commit = manifest.repositories[0]["commit"][:7]
    with pytest.raises(FetchError, match=f"mine.zip: not the content of commit {commit}"):
        fetch_dataset(one_of(manifest), tmp_path / "data", mirror=mine, progress=False)
    assert mine.is_file() and list((tmp_path / "data" / "open-scenes").iterdir()) == []
    with serving({"first.zip": mine.read_bytes()}) as server:
        online = one_of(manifest, archive=server.url + "first.zip")
        with pytest.raises(FetchError, match=rf"open-scenes-.*\.zip: not the content of commit {commit}"):
            fetch_dataset(online, tmp_path / "data", progress=False)
        server.files["/first.zip"] = archive_of(tmp_path / "good.zip", FIRST, "first-0123/").read_bytes()
        folder = fetch_dataset(online, tmp_path / "data", progress=False)
    assert content(folder) == {name: body for name, body in BOTH.items() if name.startswith("one/")}


@needs_git
def test_what_is_outside_of_the_folder_does_not_matter(tmp_path, clones):
    _, manifest = clones
    mine = archive_of(tmp_path / "mine.zip", FIRST | {"data/other/no.jpg": b"changed"}, "first-0123/")
    folder = fetch_dataset(one_of(manifest), tmp_path / "data", mirror=mine, progress=False)
    assert len(content(folder)) == 2


@needs_git
def test_a_clone_without_the_folder_and_an_archive_cut_short(tmp_path, clones):
    mirror, manifest = clones
    clone = mirror / "owner" / "first"
    with pytest.raises(FetchError, match=r"owner/first: git archive: .*data/photographs"):
        fetch_dataset(one_of(manifest, path="data/photographs"), tmp_path / "d", mirror=clone, progress=False)
    whole = made_by_git(clone, tmp_path / "cut.tar.gz", "data/photos").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FetchError, match=r"cut.tar.gz: no archive, or damaged or cut short"):
        fetch_dataset(one_of(manifest), tmp_path / "d", mirror=tmp_path / "cut.tar.gz", progress=False)


@needs_git
def test_git_tree_is_gits(tmp_path):
    # Names that sort differently as files and as folders.
    for name in ("a.txt", "a/b", "a-b", "a0", "ü/z", "Z"):
        path = tmp_path / "r" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    git(tmp_path, "init", "-q", "r")
    git(tmp_path / "r", "add", ".")
    assert git_tree(tmp_path / "r") == git(tmp_path / "r", "write-tree")


def test_a_set_with_a_form_or_without_an_address_says_where(tmp_path):
    with pytest.raises(
        FetchError, match=r"live cannot be fetched .*live\.ece\.utexas\.edu.*a form.*data unpack live"
    ):
        fetch_dataset(load_manifest("live"), tmp_path, how="direct")
    with pytest.raises(FetchError, match=r"agiqa1k cannot be fetched .*github\.com/lcysyzxdxc/AGIQA-1k"):
        fetch_dataset(load_manifest("agiqa1k"), tmp_path)


def test_open_archives_are_downloaded_and_unpacked(tmp_path):
    body = archive_of(tmp_path / "k.zip", {"1024x768/a.jpg": b"a"}, top="").read_bytes()
    manifest = load_manifest("koniq10k")
    with serving({"k.zip": body}) as server:
        fields = {"archives": [{"name": "k.zip", "url": server.url + "k.zip", "sha256": None}]}
        folder = fetch_dataset(
            dataclasses.replace(manifest, fields=fields), tmp_path / "data", progress=False
        )
    assert content(folder) == {"1024x768/a.jpg": b"a"} and folder.name == "koniq-10k"


@pytest.mark.parametrize(
    ("name", "members", "there"),
    [
        ("kadid10k", ["kadid10k/images/I01_01_01.png", "kadid10k/dmos.csv"], "kadid10k/images/I01_01_01.png"),
        ("kadid10k", ["images/I01_01_01.png"], "kadid10k/images/I01_01_01.png"),
        ("csiq", ["dst_imgs/awgn/a.png"], "CSIQ/dst_imgs/awgn/a.png"),
        ("live", ["databaserelease2/jp2k/img1.bmp"], "databaserelease2/jp2k/img1.bmp"),
        ("live", ["jp2k/img1.bmp", "jpeg/img1.bmp"], "databaserelease2/jp2k/img1.bmp"),
    ],
)
def test_pictures_go_where_the_labels_expect_them(tmp_path, name, members, there):
    archive = archive_of(tmp_path / "a.zip", dict.fromkeys(members, b"x"), top="")
    unpack_dataset(load_manifest(name), archive, tmp_path / "data", progress=False)
    assert (tmp_path / "data" / there).is_file()


def test_a_damaged_archive_is_fetched_again(tmp_path):
    body = archive_of(tmp_path / "k.zip", {"1024x768/a.jpg": b"a" * 5000}, top="").read_bytes()
    manifest = load_manifest("koniq10k")
    with serving({"k.zip": body[:3000]}) as server:
        fields = {"archives": [{"name": "k.zip", "url": server.url + "k.zip", "sha256": None}]}
        manifest = dataclasses.replace(manifest, fields=fields)
        with pytest.raises(FetchError, match="damaged or cut short"):
            fetch_dataset(manifest, tmp_path / "data", progress=False)
        server.files["/k.zip"] = body
        fetch_dataset(manifest, tmp_path / "data", progress=False)
        asked = len(server.asked)
        fetch_dataset(manifest, tmp_path / "data", progress=False)
        assert len(server.asked) == asked, "the archive is kept"
        other = archive_of(tmp_path / "o.zip", {"1024x768/a.jpg": b"b" * 5000}, top="").read_bytes()
        server.files["/k.zip"] = other
        (tmp_path / "cache" / "archives" / "k.zip").unlink()
        with pytest.raises(FetchError, match=r"k\.zip: checksum differs .*at first sight here"):
            fetch_dataset(manifest, tmp_path / "data", progress=False)
    assert (tmp_path / "data" / "koniq-10k" / "1024x768" / "a.jpg").read_bytes() == b"a" * 5000


@needs_git
def test_what_a_killed_fetch_left_is_used(tmp_path, repository):
    clone, manifest = repository
    staging = tmp_path / "data" / ".BIQ2021.fetching" / "Images"
    staging.mkdir(parents=True)
    (staging / ".ss01 (1).jpg.unpack").write_bytes(b"o")
    (staging / "ss01 (2).JPG").write_bytes(b"torn")
    folder = fetch_dataset(manifest, tmp_path / "data", mirror=clone, progress=False)
    assert content(folder) == CONTENT
