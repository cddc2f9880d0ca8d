"""Reading label tables as people save them: any encoding, any separator, and errors that name the line."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

#: Blank lines, and Excel's line that names the separator.
_BEFORE_THE_HEADER = re.compile(r"(?:[ \t,;]*\r?\n)*(?:sep=(.)\r?\n)?")


class LabelError(ValueError):
    """A label file that cannot be used; the message names the file, the line and what is wrong there."""


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8 (with or without byte-order mark), UTF-16 with one, or Windows-1252.

    Raises:
        LabelError: empty, or not text.
    """
    path = Path(path)
    raw = path.read_bytes()
    if not raw.strip():
        raise LabelError(f"{path}: the file is empty; get it again")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in raw:
        raise LabelError(f"{path}: not a text file (it has zero bytes)")
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise LabelError(f"{path}: not a text file in {' or '.join(encodings)}")


def read_table(
    path: str | os.PathLike, columns: Sequence[str] | None = None, sep: str | None = None
) -> pd.DataFrame:
    r"""A table of strings whose index is the line number in the file.

    Args:
        path: a text file; a spreadsheet (.xlsx), whose rows are then counted like lines; or JSON (.json), a
            list of objects or one object of columns, whose entries are counted.
        columns: names for a file without header; None: the first line is the header.
        sep: the separator; None: whichever of tab, semicolon and comma the first line has most of;
            ``r"\s+"`` for runs of blanks.

    Returns:
        All columns as stripped text, "" where a row is short, without blank lines and nameless empty columns.

    Raises:
        LabelError: unreadable, or a row with too many fields.
    """
    path = Path(path)
    if not path.is_file():
        raise LabelError(f"{path}: no such label file; check where the data set was unpacked")
    if path.suffix.lower() == ".xlsx":
        table = _spreadsheet(path)
    elif path.suffix.lower() == ".json":
        table = _json(path)
    else:
        text = read_text(path)
        heading = _BEFORE_THE_HEADER.match(text)
        assert heading is not None, "it matches no character as well"
        text = text[heading.end() :]
        sep = sep or heading[1] or max("\t;,", key=text.split("\n", 1)[0].count)
        try:
            with warnings.catch_warnings():  # pandas cuts a first row with too many fields, with a warning
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = pd.read_csv(
                    io.StringIO(text),
                    sep=sep,
                    header=None if columns else 0,
                    names=columns,
                    index_col=False,
                    dtype=str,
                    keep_default_na=False,
                    skip_blank_lines=False,
                    skipinitialspace=True,
                )
        except pd.errors.ParserWarning as warning:
            raise LabelError(f"{path}: a row has more fields than there are columns ({warning})") from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise LabelError(
                f"{path}: {str(error).strip()}; check the separator ({sep!r} was assumed)"
            ) from None
        table.index += heading[0].count("\n") + (1 if columns else 2)
    table.columns = [str(name).strip() for name in table.columns]
    table = table.fillna("").apply(lambda column: column.str.strip())
    table = table[(table != "").any(axis=1)]
    nameless = [n for n in table.columns if n.startswith("Unnamed:") and (table[n] == "").all()]
    return table.drop(columns=nameless)


def _spreadsheet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_excel(path, dtype=str, keep_default_na=False, engine="openpyxl")
    except Exception as error:  # openpyxl raises whatever the zip or XML inside makes it raise
        raise LabelError(f"{path}: not a spreadsheet that can be read ({error})") from error
    table.index += 2
    return table


def _json(path: Path) -> pd.DataFrame:
    text = read_text(path)
    try:
        table = pd.DataFrame(json.loads(text)).astype(str)
    except ValueError as error:
        raise LabelError(f"{path}: not a table in JSON ({error}); get it again") from None
    return table.set_axis(range(1, len(table) + 1))


def column(table: pd.DataFrame, name: str | int, path: str | os.PathLike) -> pd.Series:
    """A column by name (case and blanks around it don't matter) or by number from 1.

    Raises:
        LabelError: no such column; the message lists those there are.
    """
    if isinstance(name, int):
        places = [name - 1] if 1 <= name <= table.shape[1] else []
    else:
        places = [i for i, title in enumerate(table.columns) if title.lower() == name.strip().lower()]
    if not places:
        raise LabelError(
            f"{path}, line 1: no column {name!r}; there are {', '.join(map(repr, table.columns))}. "
            "Name the right one in the manifest"
        )
    return table.iloc[:, places[0]]


def numbers(
    values: pd.Series, path: str | os.PathLike, limits: tuple[float, float] = (-np.inf, np.inf)
) -> pd.Series:
    """Text as finite float64. The decimal separator, point or comma, is one for the whole column.

    Args:
        limits: the lowest and the highest score; they decide whether ``1,250`` has a thousand or decimals.

    Raises:
        LabelError: a value that is no finite number, or may be either of two, with its line.
    """
    text = values.str.replace("[−–]", "-", regex=True)
    point, comma = _as_numbers(text, "."), _as_numbers(text, ",")
    readings = [reading for reading in (point, comma) if reading.notna().all()]
    if not readings:
        wrong = values[point.isna() & comma.isna()]
        wrong = values[point.isna()] if wrong.empty else wrong
        more = f" (and {len(wrong) - 1} more such lines)" if len(wrong) > 1 else ""
        raise LabelError(
            f"{path}, line {wrong.index[0]}: score {wrong.iloc[0]!r} is not a number, or its decimal "
            f"separator is not that of other lines{more}; correct it or remove the line"
        )
    ambiguous = values[(point != comma) & values.str.contains(",") & (len(readings) == 2)]
    readings = [reading for reading in readings if reading[ambiguous.index].between(*limits).all()]
    if len(ambiguous) and len(readings) != 1:
        raise LabelError(
            f"{path}, line {ambiguous.index[0]}: score {ambiguous.iloc[0]!r} may be "
            f"{point[ambiguous.index[0]]:g} or {comma[ambiguous.index[0]]:g}; write it without the comma"
        )
    return readings[0]


def _as_numbers(text: pd.Series, decimal: str) -> pd.Series:
    """float64; NaN for what is no finite number with this decimal separator."""
    separators = {",": ".", ".": ","}[decimal] + r"\s'’"
    thousands = rf"^([+-]?[1-9][0-9]{{0,2}})((?:[{separators}][0-9]{{3}})+)(?![0-9])"
    text = text.str.replace(thousands, lambda match: match[1] + re.sub("[^0-9]", "", match[2]), regex=True)
    text = text.str.translate({ord(","): "?", ord("."): "?", ord(decimal): "."})
    number = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return number.where(np.isfinite(number))


def unique(values: pd.Series, path: str | os.PathLike) -> pd.Series:
    """The values as they are, none empty, none twice.

    Raises:
        LabelError: an empty one, or a repeated one with both lines.
    """
    empty = values.index[values == ""]
    if len(empty):
        raise LabelError(f"{path}, line {empty[0]}: no image name; correct it or remove the line")
    if len(twice := values[values.duplicated()]):
        first = values.index[values == twice.iloc[0]][0]
        more = f" ({len(twice)} lines repeat an earlier one)" if len(twice) > 1 else ""
        raise LabelError(
            f"{path}, line {twice.index[0]}: image {twice.iloc[0]!r} was already on line {first}{more}; "
            "remove one of them"
        )
    return values
