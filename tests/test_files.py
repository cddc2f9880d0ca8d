import errno
import os
import random
from pathlib import Path

import pytest
from safetensors import SafetensorError

from liqe_core import files
from liqe_core.files import BusyError, atomic_path, escaped, only_one, unescaped


def test_atomic_path_replaces_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with atomic_path(target) as part:
        assert part.suffix == ".csv"
        part.write_text("new")
        assert target.read_text() == "old", "nothing shows before the end"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"], "no temporary file is left"


def test_folders_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("LIQE_RUNS", raising=False)
    assert files.runs_dir("mini") == Path(__file__).resolve().parents[1] / "runs" / "mini"
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    assert files.cache_dir("mini", "v1") == tmp_path / "cache" / "mini" / "v1"
    assert files.cache_dir("mini", "v1").is_dir()


def test_a_missing_cache_or_clone_is_reported_with_advice(monkeypatch, tmp_path):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="LIQE_CACHE"):
        files.cache_dir("weights")
    with only_one(tmp_path / "work"), pytest.raises(BusyError), only_one(tmp_path / "work"):
        pass
    with pytest.raises(OSError, match="LIQE_CACHE"), only_one(tmp_path / "work", lock=tmp_path):
        pass
    monkeypatch.delenv("LIQE_RUNS", raising=False)
    monkeypatch.setattr(files, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert files.runs_dir("mini") == tmp_path / "runs" / "mini"


def test_a_lock_names_its_owner_and_ends_with_it(tmp_path):
    target = tmp_path / "work"
    with only_one(target, doing="painting"):
        second = only_one(target, doing="painting")
        with pytest.raises(BusyError, match=rf"work: .*painting.*{os.getpid()}"), second:
            pass
        with only_one(tmp_path / "other"):
            pass
    with only_one(target, lock=tmp_path / ".in_use"), only_one(target):
        assert (tmp_path / ".in_use").exists(), "a lock in a place of its own is another lock"
    assert not (tmp_path / ".in_use.holder").exists(), "nobody holds it"


def test_a_full_disk_is_known_by_number_and_by_word():
    assert files.is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert files.is_disk_full(SafetensorError("I/O error: No space left on device (os error 28)"))
    for error in (OSError(errno.EACCES, "Permission denied"), ValueError("28")):
        assert not files.is_disk_full(error)


def test_checksums(tmp_path):
    (tmp_path / "abc").write_text("abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert files.file_sha256(tmp_path / "abc") == abc
    sha = files.json_sha256({"a": 1, "b": [2.5]})
    assert sha == files.json_sha256({"b": [2.5], "a": 1}) != files.json_sha256({"a": 1})


def test_any_file_name_is_a_line_of_text_and_back():
    by_hand = {b"a b.png": "a b.png", b"a\\n": r"a\\n", b"a\n\r\t": r"a\n\r\t", b"caf\xe9": r"caf\xe9"}
    by_hand |= {b"\x1b[0m": r"\x1b[0m", "caf\u00e9 \u2028".encode(): "caf\u00e9 " + r"\xe2\x80\xa8"}
    for name, text in by_hand.items():
        assert escaped(os.fsdecode(name)) == text and os.fsencode(unescaped(text)) == name
    rng = random.Random(0)
    for _ in range(2000):
        name = os.fsdecode(bytes(rng.choices(b"\\xn0a\n\xc3\xa9\xe2\x80\xa8\xff", k=rng.randrange(8))))
        text = escaped(name)
        assert unescaped(text) == name and len(text.splitlines()) <= 1 and text.encode().decode() == text
