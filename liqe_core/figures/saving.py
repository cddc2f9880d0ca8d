"""Save figures with their data, and redraw them.

A figure is a function of tables and plain keywords. `drawing` registers such a function, `save` writes the
figure with its tables as CSV and ``NAME.json``, and `read` returns them as a `Drawing`.

>>> save(training_curves(epochs), "runs/mini/multitask_training", "training_curves")
>>> with drawn_as("talk", "dark"):
...     figure = read("runs/mini/multitask_training/training_curves.json").draw()
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import pandas as pd

from liqe_core.figures.style import Drawn, drawn_as, fixed_width, wrap_titles
from liqe_core.files import atomic_path, file_sha256, write_csv, write_json
from liqe_core.images import ImageError, ImageNotFoundError

_Arguments = ParamSpec("_Arguments")


class Listed(NamedTuple):
    """An entry in the list of figures and tables.

    Attributes:
        notebook: the notebook that makes it, without its number. sentence: a description.
    """

    notebook: str
    sentence: str


#: Every figure and table that a notebook saves, by file name.
LIST: dict[str, Listed] = {}
#: Every drawing function by name.
FUNCTIONS: dict[str, Callable[..., Drawn]] = {}


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure before it is drawn: a registered function and its arguments.

    Attributes:
        function: its name; empty for a table without a figure.
        tables: data frames by parameter. The first one is saved under the name of the figure.
        keywords: numbers, strings, and lists and dictionaries of them.
    """

    function: str
    tables: dict[str, pd.DataFrame]
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """Return the first table."""
        return next(iter(self.tables.values()))

    def draw(self) -> Drawn:
        """Draw the figure with the current style sheets."""
        return FUNCTIONS[self.function](**self.tables, **self.keywords)

    def write(self, folder: str | Path, name: str) -> list[Path]:
        """Write the tables as CSV and ``NAME.json``; return the paths.

        Raises:
            TypeError: an argument is neither a table nor JSON data, or a column cannot be saved as CSV.
        """
        folder, paths, tables = Path(folder), [], {}
        for number, (parameter, table) in enumerate(self.tables.items()):
            paths.append(folder / (f"{name}_{parameter}.csv" if number else f"{name}.csv"))
            columns, described = _columns(table, folder)
            write_csv(paths[-1], columns)
            tables[parameter] = {"file": paths[-1].name, **described}
        keywords = {keyword: _plain(keyword, value) for keyword, value in self.keywords.items()}
        paths.append(folder / f"{name}.json")
        write_json(paths[-1], {"function": self.function, "keywords": keywords, "tables": tables})
        return paths


def drawing(
    name: str, notebook: str, sentence: str
) -> Callable[[Callable[_Arguments, Drawn]], Callable[_Arguments, Drawn]]:
    """Decorate a drawing function: apply the current style sheets, and add the figure to the list.

    The figure stores its arguments for `save`. Stack the decorator if a function draws several figures.

    Args:
        name: the name of the figure's file. notebook: the notebook that saves it, without its number.
        sentence: a description.
    """
    if LIST.setdefault(name, Listed(notebook, sentence)) != (notebook, sentence):
        raise ValueError(f"two figures have the name {name}: rename one")

    def decorate(draw: Callable[_Arguments, Drawn]) -> Callable[_Arguments, Drawn]:
        if FUNCTIONS.get(draw.__name__) is draw:
            return draw

        @functools.wraps(draw)
        def styled(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Drawn:
            arguments = inspect.signature(draw).bind(*args, **kwargs).arguments
            with drawn_as():
                figure = draw(*args, **kwargs)
                if fixed_width():
                    wrap_titles(figure)
                for axes in figure.axes:
                    for axis in (axes.xaxis, axes.yaxis):
                        axis.get_major_ticks()  # otherwise made later, with another style
            tables = {key: value for key, value in arguments.items() if isinstance(value, pd.DataFrame)}
            keywords = {key: value for key, value in arguments.items() if key not in tables}
            figure.drawing = Drawing(draw.__name__, tables, keywords)
            return figure

        FUNCTIONS[draw.__name__] = styled
        return styled

    return decorate


def save(
    figure: Drawn, folder: str | Path, name: str, suffixes: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Write ``NAME.png``, ``NAME.svg`` and the data of the figure; return the paths.

    Args:
        figure: the result of a `drawing` function.
        suffixes: the file types to write, such as pdf.

    Raises:
        TypeError: see `Drawing.write`.
    """
    paths = [Path(folder) / f"{name}.{suffix}" for suffix in suffixes]
    metadata = {  # alternative text, and no date, so that equal figures have equal bytes
        ".svg": {"Date": None, "Description": figure.alt},
        ".pdf": {"CreationDate": None, "Subject": figure.alt},
        ".png": {"Description": figure.alt},
    }
    with drawn_as():
        for path in paths:
            with atomic_path(path) as part:
                figure.savefig(part, metadata=metadata.get(path.suffix))
    return paths + figure.drawing.write(folder, name)


def save_table(table: pd.DataFrame, folder: str | Path, name: str) -> None:
    """Write a table without a figure as ``NAME.csv`` and ``NAME.json``."""
    Drawing("", {"table": table}).write(folder, name)


def find(name: str, folder: str | Path) -> Path | None:
    """Find ``NAME.json`` in a folder or its subfolders: the uppermost file, or the newest of several."""
    found = Path(folder).rglob(f"{name}.json")
    return min(found, key=lambda path: (len(path.parts), -path.stat().st_mtime), default=None)


def read(path: str | Path, images: str | Path | None = None) -> Drawing:
    """Read a figure that `save` wrote, from its ``NAME.json``.

    Args:
        images: the folder of the images in the figure; None: their folder when the figure was saved.

    Raises:
        ValueError: the file cannot be read, or an image is missing or has changed.
    """
    path = Path(path)
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        tables = {
            parameter: _read_table(path.parent, described) for parameter, described in saved["tables"].items()
        }
        drawing = Drawing(saved["function"], tables, saved["keywords"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    for table in drawing.tables.values():
        if "sha256" in table:
            table["file"] = [
                _checked(Path(images) / row.image if images else path.parent / row.file, row.sha256)
                for row in table.itertuples()
            ]
    return drawing


def image_table(names: Iterable[str], folder: str | os.PathLike) -> pd.DataFrame:
    """List the images of a figure: ``image`` (the name), ``file`` and ``sha256``.

    The checksum ensures that a redrawn figure shows the same images. It is empty if the file is missing.
    """
    files = {name: Path(folder, name).absolute() for name in names}
    checksums = [file_sha256(file) if file.is_file() else "" for file in files.values()]
    return pd.DataFrame({"image": list(files), "file": map(str, files.values()), "sha256": checksums})


def _plain(keyword: str, value: object) -> object:
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        raise TypeError(f"{keyword}: {error}, so the figure cannot be saved: draw it from a table") from None


def _columns(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, dict]:
    """Return a table's columns for CSV, with its index, and the properties that CSV does not store."""
    index: list[str | None] = []
    if not (isinstance(table.index, pd.RangeIndex) and table.index.equals(pd.RangeIndex(len(table)))):
        index = list(table.index.names)
        table = table.reset_index(names=[name or f"row {level}" for level, name in enumerate(index)])
    table = table.infer_objects()
    if "sha256" in table:
        inside = [Path(file).is_relative_to(folder.absolute()) for file in table["file"]]
        relative = [os.path.relpath(file, folder.absolute()) for file in table["file"]]
        table = table.assign(file=table["file"].mask(inside, pd.Series(relative, table.index, dtype="str")))
    types = {name: _type(name, column) for name, column in table.items()}
    texts = [name for name, kind in types.items() if kind == "str"]
    missing = [name for name in texts if table[name].isna().any()]
    return table, {"index": index, "types": types, "missing": missing}


def _type(name: object, column: pd.Series) -> str:
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in ("string", "empty") and not pd.api.types.is_numeric_dtype(column):
        return "str"
    if pd.api.types.is_numeric_dtype(column):
        return str(column.dtype)
    raise TypeError(f"column {name} has {kind} values, which CSV cannot store")


def _read_table(folder: Path, described: Mapping) -> pd.DataFrame:
    types, missing = described["types"], described["missing"]
    blank = {name: [""] for name, kind in types.items() if kind != "str" or name in missing}
    rows = described.get("rows", {})
    table = pd.read_csv(
        folder / described["file"],
        usecols=list({*types, *rows}),
        dtype=types,
        keep_default_na=False,
        na_values=blank,
    )
    for column, values in rows.items():
        table = table[table[column].isin(values)]
    index, table = described["index"], table[list(types)]
    if not index:
        return table.reset_index(drop=True)
    return table.set_index(list(types)[: len(index)]).rename_axis(index)


def _checked(file: Path, sha256: str) -> str:
    if not file.is_file():
        raise ImageNotFoundError(f"{file}: the image is missing; give its folder with --images")
    if sha256 and file_sha256(file) != sha256:
        raise ImageError(f"{file}: the image has changed; give the folder of the original with --images")
    return str(file.absolute())
