import os
import stat
import tarfile

import pytest
from support.data import content
from support.hub import archive

from liqe_core.data import archives
from liqe_core.data.archives import DamagedArchiveError, unpack
from liqe_core.intake.transfers import FetchError

FILES = {f"set/images/p{i}.bmp": bytes([i]) * (1000 + i) for i in range(5)} | {"set/labels.txt": b"p0 1\n"}


def make(path, files=FILES, **options):
    path.write_bytes(archive(path.name, files, **options))
    return path


def unpack_below(path, folder, **options):
    unpack(path, folder, [lambda names: {name: name for name in names}], progress=False, **options)


KINDS = pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])


@KINDS
def test_everything_but_junk_is_unpacked_and_damaged_files_again(tmp_path, name):
    path = make(tmp_path / name, FILES | {"__MACOSX/set/._p0.bmp": b"", "set/.DS_Store": b"x"})
    unpack_below(path, tmp_path / "out")
    assert content(tmp_path / "out") == FILES
    (tmp_path / "out/set/images/p4.bmp").write_bytes(b"\0" * 1004)  # the right size, other bytes
    unpack_below(path, tmp_path / "out")
    assert content(tmp_path / "out") == FILES


@KINDS
@pytest.mark.parametrize("bad", ["../out.txt", "set/../../out.txt", "..\\out.txt", "set/.."])
def test_a_member_outside_of_the_folder_is_rejected(tmp_path, name, bad):
    path = make(tmp_path / name, FILES | {bad: b"x"})
    with pytest.raises(FetchError, match="leave"):
        unpack_below(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@KINDS
@pytest.mark.parametrize("name_in_archive", ["/etc/out.txt", "C:\\out.txt", "\\\\host\\x"])
def test_an_absolute_name_stays_below_the_folder(tmp_path, name, name_in_archive):
    unpack_below(make(tmp_path / name, {name_in_archive: b"x"}), tmp_path / "out")
    assert list(content(tmp_path / "out").values()) == [b"x"]
    assert not set(os.listdir(tmp_path)) - {name, "out", "cache"}


def test_an_existing_link_is_not_followed(tmp_path):
    (tmp_path / "out" / "set").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "set" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match="leave"):
        unpack_below(make(tmp_path / "a.zip"), tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("kind", [None, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_not_made(tmp_path, kind):
    def change(info):
        if kind and "p2" in info.name:
            info.type, info.linkname, info.size = kind, "/etc/passwd", 0
        elif not kind and "p2" in info.filename:
            info.external_attr = (stat.S_IFLNK | 0o777) << 16

    unpack_below(make(tmp_path / ("a.tar" if kind else "a.zip"), change=change), tmp_path / "out")
    assert content(tmp_path / "out") == {n: body for n, body in FILES.items() if "p2" not in n}
    assert not os.path.lexists(tmp_path / "out/set/images/p2.bmp")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_bomb_is_rejected_before_it_is_written(tmp_path, name, monkeypatch):
    monkeypatch.setattr(archives, "SPARE", 0)
    path = make(tmp_path / name, {"zeros.bmp": bytes(3_000_000)})  # shrinks a thousandfold
    with pytest.raises(FetchError, match="bomb"):
        unpack_below(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_with_a_wrong_size_is_rejected(tmp_path):
    raw = bytearray(archive("a.zip", {"a.bmp": bytes(range(256)) * 10}))
    size = (2560).to_bytes(4, "little")
    for at in (raw.find(size), raw.rfind(size)):  # in the file's header, and in the directory at the end
        raw[at : at + 4] = (100).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(DamagedArchiveError):
        unpack_below(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out" / "a.bmp").exists()


def test_too_little_room(tmp_path, monkeypatch):
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=4000))
    with pytest.raises(FetchError, match="room"):
        unpack_below(make(tmp_path / "a.zip"), tmp_path / "out")
    assert content(tmp_path / "out") == {}


@pytest.mark.parametrize(
    "body", [b"", b"no archive at all" * 100, b"Rar!\x1a\x07\x01\0", b"7z\xbc\xaf\x27\x1c"]
)
def test_an_invalid_archive_is_rejected(tmp_path, body):
    (tmp_path / "a.zip").write_bytes(body)
    with pytest.raises(DamagedArchiveError, match=r"a\.zip"):
        unpack_below(tmp_path / "a.zip", tmp_path / "out")
    for path in (tmp_path / "none.zip", tmp_path):
        with pytest.raises(FetchError, match=path.name):
            unpack_below(path, tmp_path / "out")


@KINDS
def test_an_archive_that_is_cut_short(tmp_path, name):
    path = make(tmp_path / name, {f"p{i}.bmp": os.urandom(5000) for i in range(9)})
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DamagedArchiveError, match="damaged"):
        unpack_below(path, tmp_path / "out")


def test_an_encrypted_zip_asks_for_the_password(tmp_path):
    raw = bytearray(archive("a.zip", FILES))
    for magic, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):  # in the directory, and before each file
        at = -1
        while (at := raw.find(magic, at + 1)) >= 0:
            raw[at + flags] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    for password in (None, "wrong"):
        with pytest.raises(FetchError, match=r"a\.zip: .*password"):
            unpack_below(tmp_path / "a.zip", tmp_path / "out", password=password)
