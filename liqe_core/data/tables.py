"""Readers for label tables with any encoding and separator; errors name the line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.files import first_few, mistaken

#: Blank lines, and the line in which Excel declares the separator.
_BEFORE_THE_HEADER = re.compile(r"(?:[ \t,;]*\r?\n)*(?:sep=(.)\r?\n)?")


class LabelError(ValueError):
    """An invalid label file; the message names the file, the line and the problem."""


def read_text(path: str | os.PathLike) -> str:
    """Read a text file in UTF-8 (with or without byte-order mark), UTF-16 (with one), or Windows-1252.

    Raises:
        LabelError: the file is empty or not text.
    """
    path = Path(path)
    raw = path.read_bytes()
    if not raw.strip():
        raise LabelError(f"{path}: the file is empty; download it again")
    if mistake := mistaken(raw[:512]):
        raise LabelError(f"{path}: not a table but {mistake}")
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ["utf-16"] if wide else ["utf-8-sig", "cp1252", "latin-1"]:
        with contextlib.suppress(UnicodeDecodeError):
            if "\0" not in (text := raw.decode(encoding)):
                return text
    raise LabelError(f"{path}: not a text file in UTF-8, UTF-16 or Windows-1252; save it as CSV in UTF-8")


def read_table(
    path: str | os.PathLike, columns: Sequence[str] | None = None, sep: str | None = None
) -> pd.DataFrame:
    r"""Read a table of strings whose index is the line number in the file.

    Args:
        path: a text file; a spreadsheet (.xlsx), indexed by row; or JSON (.json), a list of objects or an
            object of columns, indexed by entry.
        columns: column names for a file without a header; None: the first line is the header.
        sep: the separator; None: the most frequent of tab, semicolon and comma in the first line; ``r"\s+"``
            for runs of whitespace.

    Returns:
        All columns as stripped text, "" for missing fields, without blank lines and unnamed empty columns.

    Raises:
        LabelError: the file is unreadable, a row has too many fields, or two columns have the same name.
    """
    path = Path(path)
    if not path.is_file():
        raise LabelError(f"{path}: no such label file; check where the dataset was unpacked")
    forms = {".xlsx": _spreadsheet, ".json": _json}
    table = forms.get(path.suffix.lower(), partial(_text, columns=columns, sep=sep))(path)
    table = table.fillna("").apply(lambda column: column.str.strip())
    table = table[(table != "").any(axis=1)]
    if columns is None and not table.empty:
        table = table[1:].set_axis(table.iloc[0], axis=1)
    names = pd.Series([str(name).lower() for name in table.columns])
    if len(twice := names[names.duplicated() & (names != "")]):
        raise LabelError(f"{path}: two columns are called {twice.iloc[0]!r}; rename or remove one")
    return table.loc[:, [name != "" or (table.iloc[:, i] != "").any() for i, name in enumerate(names)]]


def _text(path: Path, columns: Sequence[str] | None, sep: str | None) -> pd.DataFrame:
    text = read_text(path)
    heading = _BEFORE_THE_HEADER.match(text)
    assert heading is not None, "the pattern also matches an empty string"
    text = text[heading.end() :]
    sep = sep or heading[1] or max("\t;,", key=text.split("\n", 1)[0].count)
    form = {"sep": sep, "names": columns, "header": None, "index_col": False, "dtype": str}
    blanks = {"keep_default_na": False, "skip_blank_lines": False, "skipinitialspace": True}
    try:
        with warnings.catch_warnings():  # pandas truncates a first row with too many fields and only warns
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(io.StringIO(text), **form, **blanks)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        if count := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            line = int(count[2]) + heading[0].count("\n")
            problem = f"{count[3]} fields where the first line has {count[1]}"
            raise LabelError(f"{path}, line {line}: {problem}; quote text that contains {sep!r}") from None
        problem = f"no table with the separator {sep!r}, or a row with too many fields"
        raise LabelError(f"{path}: {problem} ({str(error).strip()}); correct it") from None
    table.index += heading[0].count("\n") + 1
    return table


def _spreadsheet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_excel(path, header=None, dtype=str, keep_default_na=False, engine="openpyxl")
    except Exception as error:  # openpyxl passes on any error of the zip and XML parsers
        raise LabelError(f"{path}: not a readable spreadsheet ({error}); save it as CSV") from error
    table.index += 1
    return table


def _json(path: Path) -> pd.DataFrame:
    text = read_text(path)
    try:
        table = pd.DataFrame(json.loads(text)).astype(str)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{path}: not a table in JSON ({error}); download it again") from None
    heads = pd.DataFrame([table.columns.astype(str)], columns=table.columns)
    return pd.concat([heads, table]).set_axis(range(len(table) + 1))


def column(table: pd.DataFrame, name: str | int, path: str | os.PathLike) -> pd.Series:
    """Return a column by name (ignoring case and surrounding whitespace) or by number from 1.

    Raises:
        LabelError: no such column; the message lists the columns of the table.
    """
    wanted = name if isinstance(name, int) else name.strip().lower()
    places = [i for i, title in enumerate(table.columns) if wanted in (i + 1, title.lower())]
    if not places:
        columns = first_few(list(map(repr, table.columns)), 10)
        raise LabelError(f"{path}, line 1: no column {name!r}; name one of these in the manifest: {columns}")
    return table.iloc[:, places[0]]


def numbers(values: pd.Series, path: str | os.PathLike, highest: float = np.inf) -> pd.Series:
    """Convert text to finite float64 numbers.

    Args:
        highest: the highest possible score; below 1000, a comma is read as a decimal point.

    Raises:
        LabelError: a value is not a finite number; the message names its line.
    """
    text = values.str.replace("[−–]", "-", regex=True)
    if highest < 1000:  # otherwise a comma may separate thousands
        text = text.str.replace(",", ".")
    number = pd.to_numeric(text, errors="coerce").astype(np.float64)
    if len(wrong := values[~np.isfinite(number)]):
        problem = (
            f"score {wrong.iloc[0]!r} is not a number" if wrong.iloc[0].strip() else "the score is empty"
        )
        advice = "give a number without thousands separator, such as 1250.5, or remove the line"
        raise LabelError(f"{path}, line {wrong.index[0]}: {problem} ({len(wrong)} such); {advice}")
    return number


def unique(values: pd.Series, path: str | os.PathLike) -> pd.Series:
    """Return the values unchanged if none is empty or repeated.

    Raises:
        LabelError: a value is empty or repeated; the message names the lines.
    """
    empty = values.index[values == ""]
    if len(empty):
        raise LabelError(f"{path}, line {empty[0]}: the image name is empty; fill it in or remove the line")
    if len(twice := values[values.duplicated()]):
        first = values.index[values == twice.iloc[0]][0]
        raise LabelError(f"{path}, line {twice.index[0]}: {twice.iloc[0]!r} repeats line {first}; remove it")
    return values
