"""Which images ``liqe score`` takes, and where its table goes.

In: files, folders and lists of them, and patterns. Out: CSV, lines of JSON, Parquet, or a page of thumbnails
that needs no other file; each whole or not at all.
"""

from __future__ import annotations

import argparse
import base64
import codecs
import contextlib
import fnmatch
import glob
import html
import importlib.util
import io
import json
import os
import re
import string
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from liqe_core.files import atomic_path, first_few, unescaped
from liqe_core.images import ImageError, Survey, no_image_in, read_ahead, suffixes, survey
from liqe_core.intake.progress import tqdm

if TYPE_CHECKING:
    import pandas as pd

#: Names that a reason is shown with.
EXAMPLES = 3

#: Bytes of a path, at most, on Linux; other systems take less.
LONGEST = 4096

#: The longer side of a thumbnail in pixels, and the quality of its JPEG: 2 to 3 kB each.
SIDE, QUALITY = 96, 60

#: The page of ``--html``, with places for `title`, `heads` and `rows`.
PAGE = Path(__file__).with_name("page.html")
#: The forms that a table may have, as the options are called.
FORMS = ("csv", "json", "parquet", "html")


def outputs(options: argparse.Namespace) -> list[tuple[str, Path]]:
    """The tables that are asked for: their forms, and their files."""
    tables = []
    for form in FORMS:
        path = getattr(options, form)
        if path == "":
            raise ValueError(f"--{form} {path!r}: give the name of a file, or - for standard output")
        if path is not None:
            place = Path("/dev/stdout" if path == "-" else path)
            # Where a link leads, so that it stays one.
            tables.append((form, place.resolve() if place.is_symlink() and not is_stream(place) else place))
    return tables


def is_stream(path: Path) -> bool:
    """Whether a table is written to what is there, a device, a pipe or an open file, not renamed over it."""
    return bool(_open_file(path)) or (path.exists() and not (path.is_file() or path.is_dir()))


def _open_file(path: Path) -> str:
    """The number of the open file that a path stands for; empty where it stands for none."""
    number = path.name if path.parent.name == "fd" and path.parts[1] in ("dev", "proc") else ""
    return {"/dev/stdout": "1", "/dev/stderr": "2"}.get(str(path), number)


def summary(selection: Survey) -> list[str]:
    """A line for each reason why files were left out: how many, and the first of them."""
    return [
        f"left out, {reason}: {len(names)} ({first_few(names, EXAMPLES)})"
        for reason, names in selection.left_out.items()
    ]


def choose(paths: Iterable[str], include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Survey:
    """Files as they are, so that an error can name them, and of folders the images in them and below.

    Args:
        include: glob patterns; take only what matches one, by its name or by its path (below the folder,
            where it is from one).
        exclude: glob patterns likewise; what matches one is left out.

    Raises:
        ImageError: a folder without images, or nothing is left.
    """
    selection = Survey()
    for path in paths:
        folder = Path(path)
        if os.path.isdir(path):  # False of a name that is too long or none: what reads it says so
            content = survey(folder)
            for reason, names in content.left_out.items():
                selection.left_out.setdefault(reason, []).extend(str(folder / name) for name in names)
            if not content.images:
                raise ImageError("; ".join([str(no_image_in(folder)), *summary(selection)]))
            candidates = [(str(folder / name), name) for name in content.images]
        else:
            candidates = [(path, path)]
        for image, name in candidates:
            if include and not _matches(name, include):
                selection.left_out.setdefault("not included", []).append(image)
            elif _matches(name, exclude):
                selection.left_out.setdefault("excluded", []).append(image)
            else:
                selection.images.append(image)
    if not selection.images:
        raise ImageError("no image is left: give some, or other patterns to --include and --exclude")
    return selection


def read_list(path: str) -> list[str]:
    """The paths in a file, ``-`` for standard input: a line each, or each ended by a zero byte, as
    ``find -print0`` writes them. Empty lines are passed over.

    Raises:
        ValueError: the file cannot be read, or is no list.
    """
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"--from-file {path}: {error.strerror}; give a file of paths, or -") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes it
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise ValueError(f"--from-file {path}: no text in UTF-16 ({error}); save it as UTF-8") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    names = content.split(b"\0") if b"\0" in content else re.split(rb"\r?\n", content)
    if max(map(len, names)) > LONGEST or Path(path).suffix.lower() in suffixes():
        raise ValueError(
            f"--from-file {path}: no list of paths, a line each; an image is given without --from-file"
        )
    return [os.fsdecode(name) for name in names if name.strip()]


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = os.path.basename(path)
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(name, p) for p in patterns)


def check_places(outputs: Sequence[tuple[str, Path]], read_files: Sequence[str]) -> None:
    """Whether tables can be written, before hours are spent on them. Makes the folders that they are in.

    Args:
        outputs: forms, of `FORMS`, and places.
        read_files: files that no table must replace.

    Raises:
        ValueError: a folder is in the place of one, or a file that is needed, or another table; the package
            for its form is missing.
        OSError: nothing can be written there.
    """
    for form, path in outputs:
        if is_stream(path):
            continue
        if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
            raise ValueError(
                "--parquet needs the package pyarrow: pip install pyarrow, or take --csv or --json"
            )
        if path.is_dir():
            raise ValueError(f"--{form} {path}: a folder; give the name of a file in it")
        if path.exists():
            if not os.access(path, os.W_OK):
                raise ValueError(f"--{form} {path}: may not be written to; give another name")
            for file in read_files:
                if os.path.exists(file) and path.samefile(file):
                    raise ValueError(
                        f"--{form} {path}: would replace {file}, which is read; give another name"
                    )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            in_place = isinstance(error, FileExistsError)
            reason = f"{path.parent} is a file" if in_place else error.strerror or str(error)
            raise OSError(f"--{form} {path}: cannot be written ({reason}); give another place") from None
    if len({path.resolve() for _, path in outputs}) < len(outputs):
        raise ValueError("two tables of the same name: give each form its own")


def clear_parts(path: Path) -> None:
    """Remove what a kill while the table was written has left; the caller has the lock."""
    pattern = glob.escape(f".{path.stem}.") + "[0-9a-f]" * 8 + glob.escape(f".part{path.suffix}")
    for part in path.parent.glob(pattern):  # as `files.atomic_path` names them
        part.unlink(missing_ok=True)


def write(form: str, path: Path, table: pd.DataFrame, read: Callable[[str], Image.Image]) -> None:
    """Write the table, to a file whole or not at all.

    Args:
        form: one of `FORMS`.
        read: from a path to 8-bit RGB, for the thumbnails of a page.
    """
    with _to_stream(path) if is_stream(path) else atomic_path(path) as part:
        if form == "csv":
            table.to_csv(part, index=False)
        elif form == "json":
            _write_json(part, table)
        elif form == "parquet":
            table.to_parquet(part, index=False)
        else:
            write_page(part, table, read)


@contextlib.contextmanager
def _to_stream(path: Path) -> Iterator[Path]:
    """A temporary path whose content goes to a stream when the block ends well."""
    with tempfile.TemporaryDirectory() as folder:
        yield (part := Path(folder, "table"))
        sys.stdout.flush()
        # An open file is not opened anew: one that the shell has put there would be begun again.
        try:
            with open(os.dup(int(number)) if (number := _open_file(path)) else path, "wb") as stream:
                stream.write(part.read_bytes())
        except OSError as error:  # which stream is full; a broken pipe stays one
            raise OSError(error.errno, error.strerror, str(path)) from None


def _write_json(path: Path, table: pd.DataFrame) -> None:
    # Through NumPy, whose float32 are written with the digits that CSV has, not those of the same float64.
    columns = [map(_plain, table[name].to_numpy()) for name in table]
    with path.open("w", encoding="utf-8") as file:
        for row in zip(*columns, strict=True):
            file.write(json.dumps(dict(zip(table, row, strict=True)), ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    """A cell as JSON has it; what is missing is null."""
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else float(str(value))


def write_page(path: Path, table: pd.DataFrame, read: Callable[[str], Image.Image]) -> None:
    """Write the page: a row an image with its thumbnail, name, quality and likeliest scene and distortion;
    those without a score come last and say why.

    Args:
        table: from `Prediction.to_frame`, names escaped by `files.escaped`.
        read: from a path to 8-bit RGB, for the thumbnails; what cannot be read any more has none.
    """
    axes = [axis for axis in ("scene", "distortion") if axis in table]
    table = table.sort_values("quality", kind="stable", na_position="last")
    heads = [("image", "text", "image"), ("quality", "number", "quality"), *((a, "text", a) for a in axes)]
    shown = "".join(
        f'<th class="{name}"{" aria-sort=ascending" if name == "quality" else ""}>'
        f'<button data-kind="{kind}">{text}</button></th>'
        for name, kind, text in heads
    )

    def thumbnail(row: int) -> str:
        if not table["quality"].iat[row] >= 0:
            return ""
        with contextlib.suppress(ImageError):
            return _thumbnail(read(unescaped(table["image"].iat[row])))
        return ""

    with (
        path.open("w", encoding="utf-8") as file,
        contextlib.closing(read_ahead(thumbnail, range(len(table)))) as thumbnails,
    ):
        scored = f"{table['quality'].notna().sum()} of {len(table)} images scored"
        page = string.Template(PAGE.read_text(encoding="utf-8")).safe_substitute(title=scored, heads=shown)
        before, after = page.split("$rows")
        file.write(before)
        bar = tqdm(thumbnails, "thumbnails", len(table), disable=len(table) <= 8, unit="image")
        for row, image in zip(table.to_dict("records"), bar, strict=True):
            file.write(f"<tr><td>{image}</td>{_cells(row, axes)}</tr>\n")
        file.write(after)


def _cells(row: dict, axes: list[str]) -> str:
    name = html.escape(row["image"])
    if not row["quality"] >= 0:
        reason = html.escape(str(row.get("error", "")))
        empty = '<td data-v=""></td>' * len(axes)
        return f'<td data-v="{name}">{name}<br><small>{reason}</small></td><td data-v="">no score</td>{empty}'
    note = f"<br><small>{row['note']}</small>" if row.get("note") else ""
    cells = [f'<td data-v="{name}">{name}{note}</td><td data-v="{row["quality"]}">{row["quality"]:.3f}</td>']
    for axis in axes:
        word, probability = html.escape(row[axis]), row[f"{axis}_probability"]
        cells.append(f'<td data-v="{word}">{word} <small>{probability:.2f}</small></td>')
    return "".join(cells)


def _thumbnail(image: Image.Image) -> str:
    """An element with the image as a JPEG in it, which a browser decodes when it comes into view."""
    image.thumbnail((SIDE, SIDE))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY)
    data = base64.b64encode(jpeg.getvalue()).decode("ascii")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img loading="lazy" decoding="async" alt="" {size} src="data:image/jpeg;base64,{data}">'
