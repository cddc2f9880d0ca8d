import warnings

import numpy as np
import pandas as pd
import pytest

from liqe_core.data.tables import LabelError, column, numbers, read_table, unique


def read(path):
    table = read_table(path)
    return list(unique(column(table, "name", path), path)), list(numbers(column(table, "mos", path), path))


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
        ("\nsep=;\nname;mos\na;1,250\nb;980\n", "line 4: .*'1,250'.* 1250 or 1.25"),
        ("name;mos\na;1,5\nb;2.25\n", "line 2: .*separator"),
        ("name;mos\na;1.250.000\nb;12 34\n", "line 3: .*'12 34'"),
        (",,\n", "columns"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(tmp_path, text, word):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with warnings.catch_warnings(), pytest.raises(LabelError, match=rf"labels\.csv.*{word}"):
        warnings.simplefilter("default")
        read(path)


@pytest.mark.parametrize(
    ("values", "limits", "expected"),
    [
        ("1,250 980.5", (0, 2000), [1250, 980.5]),
        ("1,250 980,5", (0, 2000), [1.25, 980.5]),
        ("1.250,5 980", (0, 2000), [1250.5, 980]),
        ("1,250,000 980", (0, 2e6), [1250000, 980]),
        ("2,125 3,250", (1, 5), [2.125, 3.25]),
        ("1,250 1,100", (900, 2000), [1250, 1100]),
        ("2.125 3.250", (-np.inf, np.inf), [2.125, 3.25]),
        ("1\u202f250 1'250 1’250,5 \u22121", (-1, 2000), [1250, 1250, 1250.5, -1]),
    ],
)
def test_one_rule_for_the_separators_of_a_column(values, limits, expected):
    assert list(numbers(pd.Series(values.split(" ")), "t.csv", limits)) == expected


@pytest.mark.parametrize("name", ["none.csv", "none.xlsx", "broken.xlsx"])
def test_a_missing_file_and_a_broken_spreadsheet(tmp_path, name):
    (tmp_path / "broken.xlsx").write_bytes(b"PK nonsense")
    with pytest.raises(LabelError, match=name):
        read_table(tmp_path / name)
