import os

import pytest
from support.data import write_image

from liqe_core.data.presence import Journal, find_images


def test_images_are_found_with_any_case_in_any_folder(tmp_path):
    for name in ("one/a.bmp", "one/B.BMP", "two/c.bmp", "one/.hidden.bmp", ".git/x.bmp", "one/notes.txt"):
        write_image(tmp_path / name.replace(".txt", ".bmp")).rename(tmp_path / name)
    found = find_images([f"one/{letter}.bmp" for letter in "abcCd"], tmp_path, ("one", "two"))
    write_image(tmp_path / "three" / "Cafe\u0301.bmp")  # as macOS writes it
    assert list(find_images(["caf\u00e9.bmp"], tmp_path / "three")["match"]) == ["case"]
    assert list(found["match"]) == ["exact", "case", "exact", "case", "missing"]
    assert list(found["file"])[:4] == ["one/a.bmp", "one/B.BMP", "two/c.bmp", "two/c.bmp"]


@pytest.fixture
def journal(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "images" / name).write_text(name)
    return Journal(tmp_path / "notes" / "journal.jsonl", tmp_path / "images")


def test_the_last_entry_of_a_file_counts_until_the_file_changes(journal):
    assert journal.current() == {}
    for name, found in (("a.txt", 1), ("b.txt", 2), ("a.txt", 3)):
        journal.note(journal.stamp(name) | {"found": found})
    assert {name: entry["found"] for name, entry in journal.current().items()} == {"a.txt": 3, "b.txt": 2}
    (journal.folder / "a.txt").write_text("of another size")
    os.utime(journal.folder / "b.txt", ns=(1, 1))
    assert journal.current() == {}
    journal.note(journal.stamp("a.txt"))
    (journal.folder / "a.txt").unlink()
    assert journal.current() == {}
    with pytest.raises(FileNotFoundError):
        journal.stamp("a.txt")
