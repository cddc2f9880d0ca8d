import warnings

import pandas as pd
import pytest

from liqe_core.data.tables import LabelError, column, numbers, read_table, unique


def read(path, highest=5):
    table = read_table(path)
    mos = numbers(column(table, "mos", path), path, highest)
    return list(unique(column(table, "name", path), path)), list(mos)


WANTED = (["bläu.jpg", "b.jpg"], [1.5, 2.25])


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "name,mos\nbläu.jpg,1.5\nb.jpg,2.25\n"),
        ("utf-8-sig", "name,mos\nbläu.jpg,1.5\nb.jpg,2.25\n"),
        ("utf-16", "name,mos\nbläu.jpg,1.5\nb.jpg,2.25\n"),
        ("cp1252", "name;mos\r\nbläu.jpg;1,5\r\nb.jpg;2,25\r\n"),
        ("cp1252", " Name , MOS ,,\r\nbläu.jpg, 1.5,,\r\n\r\nb.jpg,2.25,,\r\n"),
        ("utf-8", "name\tmos\nbläu.jpg\t1.5\nb.jpg\t2.25"),
        ("utf-8", "\n,,\r\nname,mos\nbläu.jpg,1.5\nb.jpg,2.25"),
        ("cp1252", "sep=;\r\nname;mos\r\nbläu.jpg;1,5\r\nb.jpg;2,25"),
    ],
)
def test_tables_as_people_save_them(tmp_path, encoding, text):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    assert read(path) == WANTED


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name,mos\na,inf\nb,x\n", "line 2: .*'inf'"),
        ("\nsep=;\nname;mos\na;980\nb;1,250\n", "line 5: .*'1,250'.*thousands"),
        ("name;mos\na;1.250.000\nb;12 34\n", "line 2: .*2 such"),
        (",,\n", "columns"),
        ("name,mos,MOS\na,1,5\n", "two columns are called 'mos'"),
        ("<html>log in</html>", "web page"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(tmp_path, text, word):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with warnings.catch_warnings(), pytest.raises(LabelError, match=rf"labels\.csv.*{word}"):
        warnings.simplefilter("default")
        read(path, 2000)


def test_a_comma_is_a_decimal_point_of_small_scores():
    assert list(numbers(pd.Series(["2,125", "\u22123.250"]), "t.csv", 5)) == [2.125, -3.25]


@pytest.mark.parametrize("name", ["none.csv", "none.xlsx", "broken.xlsx"])
def test_a_missing_file_and_a_broken_spreadsheet(tmp_path, name):
    (tmp_path / "broken.xlsx").write_bytes(b"PK nonsense")
    with pytest.raises(LabelError, match=name):
        read_table(tmp_path / name)
