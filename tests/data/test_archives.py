import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile

import pytest

from liqe_core.data import archives
from liqe_core.data.archives import member_names, unpack
from liqe_core.intake.hub import FetchError

FILES = {f"set/pictures/p{i}.bmp": bytes([i]) * (1000 + i) for i in range(5)} | {"set/labels.txt": b"p0 1\n"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))


def make_zip(path, files=FILES, change=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if change:
                change(info)
            archive.writestr(info, body)
    return path


def make_tar(path, files=FILES, change=None):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(body), 1_500_000_000
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(body))
    return path


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


MAKERS = pytest.mark.parametrize(
    ("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar"), (make_tar, "a.tar.gz")]
)


@MAKERS
def test_everything_is_unpacked_and_a_second_time_nothing_is_written(tmp_path, make, name):
    archive, folder = make(tmp_path / name), tmp_path / "out"
    paths = unpack(archive, folder, progress=False)
    assert content(folder) == FILES
    assert sorted(p.relative_to(folder).as_posix() for p in paths) == sorted(FILES)
    times = {p: p.stat().st_ctime_ns for p in paths}
    (folder / "set/pictures/p3.bmp").write_bytes(b"damaged")
    (folder / "set/pictures/p4.bmp").write_bytes(b"\0" * 1004)  # the right size, other bytes
    unpack(archive, folder, progress=False)
    assert content(folder) == FILES
    changed = {p.name for p in paths if p.stat().st_ctime_ns != times[p]}
    assert changed == {"p3.bmp", "p4.bmp"}


@MAKERS
def test_leading_folders_and_junk_are_left_off(tmp_path, make, name):
    archive = make(tmp_path / name, FILES | {"__MACOSX/set/._p0.bmp": b"", "set/.DS_Store": b"x"})
    assert sorted(member_names(archive)) == sorted(tuple(n.split("/")) for n in FILES)
    unpack(archive, tmp_path / "out", strip=1, progress=False)
    assert content(tmp_path / "out") == {n.removeprefix("set/"): body for n, body in FILES.items()}


@MAKERS
def test_only_what_lies_in_the_wanted_folder_is_unpacked(tmp_path, make, name):
    others = ("set/p.bmp", "set/pictures2/q.bmp", "other/pictures/r.bmp", "set/a/pictures/s.bmp")
    archive = make(tmp_path / name, FILES | dict.fromkeys(others, b"x"))
    wanted = {n.removeprefix("set/pictures/"): b for n, b in FILES.items() if n.startswith("set/pictures/")}
    paths = unpack(archive, tmp_path / "whole", only=("set", "pictures"), progress=False)
    assert content(tmp_path / "whole") == wanted and len(paths) == len(wanted) == 5
    unpack(archive, tmp_path / "stripped", strip=1, only=["pictures"], progress=False)
    assert content(tmp_path / "stripped") == wanted | {"r.bmp": b"x"}
    assert unpack(archive, tmp_path / "none", only=("set", "nothing"), progress=False) == []
    assert content(tmp_path / "none") == {}


@MAKERS
@pytest.mark.parametrize(
    "bad",
    [
        "../out.txt",
        "set/../../out.txt",
        "/etc/out.txt",
        "C:\\out.txt",
        "..\\out.txt",
        "set/..",
        "\\\\host\\x",
    ],
)
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path, make, name, bad):
    archive = make(tmp_path / name, FILES | {bad: b"x"})
    with pytest.raises(FetchError, match="would leave the folder; nothing was unpacked"):
        unpack(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def as_zip_link(info):
    if "p2" in info.filename:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16


def as_tar(kind):
    def change(info):
        if "p2" in info.name:
            info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    return change


@pytest.mark.parametrize(
    ("make", "name", "change"),
    [
        (make_zip, "a.zip", as_zip_link),
        (make_tar, "a.tar", as_tar(tarfile.SYMTYPE)),
        (make_tar, "a.tar", as_tar(tarfile.LNKTYPE)),
        (make_tar, "a.tar", as_tar(tarfile.CHRTYPE)),
        (make_tar, "a.tar", as_tar(tarfile.FIFOTYPE)),
    ],
)
def test_links_and_devices_are_refused(tmp_path, make, name, change):
    archive = make(tmp_path / name, change=change)
    with pytest.raises(FetchError, match=r"p2.bmp' is a link or a device; nothing was unpacked"):
        unpack(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_link_that_lies_there_already_is_not_followed(tmp_path):
    (tmp_path / "out" / "set").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "set" / "pictures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match="a link out of"):
        unpack(make_zip(tmp_path / "a.zip"), tmp_path / "out", progress=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
def test_a_bomb_is_refused_before_it_is_written(tmp_path, make, name, monkeypatch):
    monkeypatch.setattr(archives, "_SPARE", 0)
    archive = make(tmp_path / name, {"zeros.bmp": bytes(3_000_000)})  # shrinks a thousandfold
    with pytest.raises(FetchError, match="possibly a decompression bomb"):
        unpack(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    unpack(archive, tmp_path / "out", max_ratio=None, progress=False)
    assert (tmp_path / "out" / "zeros.bmp").stat().st_size == 3_000_000


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    raw = bytearray(make_zip(tmp_path / "a.zip", {"a.bmp": bytes(range(256)) * 10}).read_bytes())
    size = (2560).to_bytes(4, "little")
    for at in (raw.find(size), raw.rfind(size)):  # in the file's header, and in the directory at the end
        raw[at : at + 4] = (100).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(FetchError):
        unpack(tmp_path / "a.zip", tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "a.bmp").exists()


def test_too_little_room(tmp_path, monkeypatch):
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=4000))
    with pytest.raises(FetchError, match="make room"):
        unpack(make_zip(tmp_path / "a.zip"), tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no archive, or damaged"),
        (b"no archive at all" * 100, "no archive, or damaged"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive; unpack it with"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it with"),
    ],
)
def test_what_is_no_archive_is_told(tmp_path, body, says):
    (tmp_path / "a.zip").write_bytes(body)
    with pytest.raises(FetchError, match=says):
        unpack(tmp_path / "a.zip", tmp_path / "out", progress=False)


@MAKERS
def test_an_archive_that_is_cut_short(tmp_path, make, name):
    archive = make(tmp_path / name, {f"p{i}.bmp": os.urandom(5000) for i in range(9)})
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(FetchError, match="damaged or cut short"):
        unpack(archive, tmp_path / "out", progress=False)


def test_no_archive_and_a_member_twice(tmp_path):
    with pytest.raises(FetchError, match="no such archive"):
        unpack(tmp_path / "none.zip", tmp_path)
    with pytest.raises(FetchError, match="a folder, not an archive"):
        unpack(tmp_path, tmp_path)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a/b.bmp", "a/./b.bmp"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(FetchError, match="in it twice"):
        unpack(tmp_path / "a.tar", tmp_path / "out", progress=False)


def test_an_encrypted_zip_asks_for_the_password(tmp_path):
    def encrypted(info):
        info.flag_bits |= 1

    raw = bytearray(make_zip(tmp_path / "a.zip").read_bytes())
    at = -1
    while (at := raw.find(b"PK\x01\x02", at + 1)) >= 0:  # the directory's entries: flags at 8
        raw[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(FetchError, match="encrypted; give the password"):
        unpack(tmp_path / "a.zip", tmp_path / "out", progress=False)


SCRIPT = """
import os, signal, sys
from liqe_core.data import archives

moment, seen = int(sys.argv[3]), []
replace = os.replace

def dying(part, path):
    seen.append(path)
    if len(seen) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(part, path)

os.replace = dying
archives.unpack(sys.argv[1], sys.argv[2], progress=False)
"""


@pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar")])
def test_killed_at_any_moment_it_goes_on(tmp_path, make, name):
    archive, folder = make(tmp_path / name), tmp_path / "out"
    whole = 0
    for moment in (1, 4):  # the first dies on its first file, the next leaves three more whole
        command = [sys.executable, "-c", SCRIPT, archive, folder, str(moment)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        whole += moment - 1
        there = {n: b for n, b in content(folder).items() if not n.rsplit("/", 1)[-1].startswith(".")}
        assert len(there) == whole and there.items() <= FILES.items()
    unpack(archive, folder, progress=False)
    assert content(folder) == FILES, "and what was torn is gone"
