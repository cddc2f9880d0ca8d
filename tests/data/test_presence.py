import pytest
from support.data import write_picture

from liqe_core.data.presence import MissingImagesError, find_pictures, refuse_missing
from liqe_core.images import list_pictures


def test_images_are_found_whatever_the_case_and_in_any_of_the_folders(tmp_path):
    for name in ("one/a.bmp", "one/B.BMP", "two/c.bmp", "one/.hidden.bmp", ".git/x.bmp", "one/notes.txt"):
        write_picture(tmp_path / name.replace(".txt", ".bmp")).rename(tmp_path / name)
    assert list_pictures(tmp_path) == ["one/B.BMP", "one/a.bmp", "two/c.bmp"]
    found = find_pictures(
        ["one/a.bmp", "one/b.bmp", "one/c.bmp", "one/C.bmp", "one/d.bmp"], tmp_path, ("one", "two")
    )
    assert list(found["match"]) == ["exact", "case", "exact", "case", "missing"]
    assert list(found["file"])[:4] == ["one/a.bmp", "one/B.BMP", "two/c.bmp", "two/c.bmp"]


def test_missing_images_are_counted_and_five_are_named(tmp_path):
    found = find_pictures([f"p{i}.png" for i in range(7)], tmp_path / "nowhere")
    with pytest.raises(
        MissingImagesError, match=r"7 of 7 .*\(p0.png, p1.png, p2.png, p3.png, p4.png, \.\.\.\)"
    ):
        refuse_missing(found, tmp_path)
    refuse_missing(found[:0], tmp_path)
