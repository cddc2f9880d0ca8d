"""Where a table of scores goes: one frame, as CSV, lines of JSON, Parquet or a page, whole or not at all."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from liqe_core.commands.score_page import write_page

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image


def check_place(form: str, path: Path, keep: Iterable[str]) -> None:
    """Whether a table can be written there, before hours are spent on it. Makes the folder that it is in.

    Args:
        form: one of `FORMS`.
        keep: files that it must not replace.

    Raises:
        ValueError: a folder is in its place, or a file that is needed; the package for the form is missing.
        OSError: nothing can be written there.
    """
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError("--parquet needs the package pyarrow: pip install pyarrow, or take --csv or --json")
    if path.is_dir():
        raise ValueError(f"--{form} {path}: a folder; give the name of a file in it")
    if path.exists():
        if not path.is_file():
            raise ValueError(f"--{form} {path}: a device or a pipe, which it would replace; give a file")
        if not os.access(path, os.W_OK):
            raise ValueError(f"--{form} {path}: may not be written to; give another name")
        if other := next((k for k in keep if os.path.exists(k) and path.samefile(k)), None):
            raise ValueError(f"--{form} {path}: would replace {other}, which is read; give another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"--{form} {path}: nothing can be written there ({reason}); give another place"
        ) from None


def clear_parts(path: Path) -> None:
    """Remove what a kill while the table was written has left; the caller has the lock."""
    before, after = f".{path.stem}.", f".part{path.suffix}"
    for part in path.parent.glob(glob.escape(before) + "*" + glob.escape(after)):
        if "." not in part.name[len(before) : -len(after)]:  # else it is of page.2.html beside page.html
            part.unlink(missing_ok=True)


def write(form: str, path: Path, table: pd.DataFrame, read: Callable[[str], Image.Image]) -> None:
    """Write the table, whole or not at all.

    Args:
        form: one of `FORMS`.
        read: from a path to 8-bit RGB, for the thumbnails of a page.
    """
    from liqe_core.files import atomic_path

    with atomic_path(path) as part:
        if form == "html":
            write_page(part, table, read)
        else:
            _WRITERS[form](part, table)


def _json(path: Path, table: pd.DataFrame) -> None:
    names = [str(name) for name in table.columns]
    # Through NumPy, whose float32 are written with the digits that CSV has, not those of the same float64.
    columns = [map(_plain, table[name].to_numpy()) for name in table.columns]
    with path.open("w", encoding="utf-8") as file:
        for row in zip(*columns, strict=True):
            file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    """A cell as JSON has it; what is missing is null."""
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else float(str(value))


_WRITERS: Mapping[str, Callable[[Path, pd.DataFrame], None]] = {
    "csv": lambda path, table: table.to_csv(path, index=False),
    "json": _json,
    "parquet": lambda path, table: table.to_parquet(path, index=False),
}

#: The forms that a table may have, as the options are called.
FORMS = (*_WRITERS, "html")
