"""The journal: what it keeps, what it forgets, and what is none."""

import os

import pytest

from liqe_core.data.journal import Journal


@pytest.fixture
def journal(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "pictures" / name).write_text(name)
    return Journal(tmp_path / "notes" / "journal.jsonl", tmp_path / "pictures")


def test_the_last_entry_of_a_file_counts_until_the_file_changes(journal):
    assert journal.current() == {}
    with journal.writing() as note:
        note(journal.stamp("a.txt") | {"found": 1})
        note(journal.stamp("b.txt") | {"found": 2})
        note(journal.stamp("a.txt") | {"found": 3})
    assert {name: entry["found"] for name, entry in journal.current().items()} == {"a.txt": 3, "b.txt": 2}
    (journal.folder / "a.txt").write_text("of another size")
    os.utime(journal.folder / "b.txt", ns=(1, 1))
    assert journal.current() == {}


def test_a_line_torn_by_a_kill_costs_that_line_alone(journal):
    with journal.writing() as note:
        note(journal.stamp("a.txt") | {"found": 1})
    with journal.path.open("a") as file:
        file.write('{"file": "b.txt", "si')
    assert list(journal.current()) == ["a.txt"]
    with journal.writing() as note:
        note(journal.stamp("b.txt") | {"found": 2})
    assert sorted(journal.current()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "[1, 2]\n", '{"some": "json"}\n', "3\n"])
def test_a_file_that_is_something_else_is_refused(journal, content):
    journal.path.parent.mkdir()
    journal.path.write_text(content)
    with pytest.raises(ValueError, match=r"journal\.jsonl is no journal of ours: delete it, or name another"):
        journal.current()
    assert journal.path.read_text() == content


def test_a_file_that_went_away_is_forgotten(journal):
    with journal.writing() as note:
        note(journal.stamp("a.txt"))
    (journal.folder / "a.txt").unlink()
    assert journal.current() == {}
    with pytest.raises(FileNotFoundError):
        journal.stamp("a.txt")
