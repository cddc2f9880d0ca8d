"""Input files and output tables of ``liqe score``.

Inputs are files, folders, lists of paths, and patterns. Outputs are CSV, JSON lines, Parquet, or a
self-contained HTML page of thumbnails; each file is written atomically.
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

#: Number of example names shown with a reason.
EXAMPLES = 3

#: The maximum length of a path in bytes on Linux; other systems allow less.
LONGEST = 4096

#: The longer side of a thumbnail in pixels, and the quality of its JPEG: 2 to 3 kB each.
SIDE, QUALITY = 96, 60

#: The template for ``--html`` with the placeholders `title`, `heads` and `rows`.
PAGE = Path(__file__).with_name("page.html")
#: Table formats, by the names of their options.
FORMS = ("csv", "json", "parquet", "html")


def outputs(options: argparse.Namespace) -> list[tuple[str, Path]]:
    """Return the requested tables: their formats and files."""
    tables = []
    for form in FORMS:
        path = getattr(options, form)
        if path == "":
            raise ValueError(f"--{form} {path!r}: empty name; give the name of a file, or - for stdout")
        if path is not None:
            place = Path("/dev/stdout" if path == "-" else path)
            # Resolve symbolic links, so that the link itself is not replaced.
            tables.append((form, place.resolve() if place.is_symlink() and not is_stream(place) else place))
    return tables


def is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe or an open file, which is written to instead of replaced."""
    return bool(_open_file(path)) or (path.exists() and not (path.is_file() or path.is_dir()))


def _open_file(path: Path) -> str:
    """Return the file descriptor that a path such as ``/dev/stdout`` names, or an empty string."""
    number = path.name if path.parent.name == "fd" and path.parts[1] in ("dev", "proc") else ""
    return {"/dev/stdout": "1", "/dev/stderr": "2"}.get(str(path), number)


def summary(selection: Survey) -> list[str]:
    """Return one line per reason for skipped files, with their number and first names."""
    return [
        f"left out, {reason}: {len(names)} ({first_few(names, EXAMPLES)})"
        for reason, names in selection.left_out.items()
    ]


def choose(paths: Iterable[str], include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Survey:
    """Select the images to score: all named files, and all images below named folders.

    Args:
        include: glob patterns; only select files whose name or path matches one. For files from a folder,
            the path is relative to the folder.
        exclude: glob patterns; skip files whose name or path matches one.

    Raises:
        ImageError: a folder has no images, or no image is selected.
    """
    selection = Survey()
    for path in paths:
        folder = Path(path)
        if os.path.isdir(path):  # invalid and overlong names are reported when they are read
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
        raise ImageError("no image is left; name images, or change --include and --exclude")
    return selection


def read_list(path: str) -> list[str]:
    """Read a list of paths from a file, or from standard input for ``-``.

    Paths are separated by line breaks or by zero bytes (``find -print0``); empty lines are ignored.

    Raises:
        ValueError: the file cannot be read or is not a list of paths.
    """
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"--from-file {path}: {error.strerror}; give a file of paths, or -") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # written by PowerShell
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise ValueError(f"--from-file {path}: not valid UTF-16 ({error}); save it as UTF-8") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    names = content.split(b"\0") if b"\0" in content else re.split(rb"\r?\n", content)
    if max(map(len, names)) > LONGEST or Path(path).suffix.lower() in suffixes():
        raise ValueError(
            f"--from-file {path}: not a list with a path per line; to score an image, omit --from-file"
        )
    return [os.fsdecode(name) for name in names if name.strip()]


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = os.path.basename(path)
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(name, p) for p in patterns)


def check_places(outputs: Sequence[tuple[str, Path]], read_files: Sequence[str]) -> None:
    """Check before scoring that the tables can be written, and create their folders.

    Args:
        outputs: formats in `FORMS`, and paths.
        read_files: input files that a table must not replace.

    Raises:
        ValueError: a path is a folder, an input file, or the path of another table; or the package for a
            format is missing.
        OSError: a path is not writable.
    """
    for form, path in outputs:
        if is_stream(path):
            continue
        if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
            raise ValueError(
                "--parquet requires the package pyarrow; run pip install pyarrow, or use --csv or --json"
            )
        if path.is_dir():
            raise ValueError(f"--{form} {path}: is a folder; give the name of a file in it")
        if path.exists():
            if not os.access(path, os.W_OK):
                raise ValueError(f"--{form} {path}: is write-protected; give another name")
            for file in read_files:
                if os.path.exists(file) and path.samefile(file):
                    raise ValueError(f"--{form} {path}: would replace the input {file}; give another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            in_place = isinstance(error, FileExistsError)
            reason = f"{path.parent} is a file, not a folder" if in_place else error.strerror or str(error)
            raise OSError(f"--{form} {path}: cannot be written ({reason}); give another place") from None
    if len({path.resolve() for _, path in outputs}) < len(outputs):
        raise ValueError("two tables have the same name; give each format its own file")


def clear_parts(path: Path) -> None:
    """Remove partial tables left by a killed run; the caller holds the lock."""
    pattern = glob.escape(f".{path.stem}.") + "[0-9a-f]" * 8 + glob.escape(f".part{path.suffix}")
    for part in path.parent.glob(pattern):  # as `files.atomic_path` names them
        part.unlink(missing_ok=True)


def write(form: str, path: Path, table: pd.DataFrame, read: Callable[[str], Image.Image]) -> None:
    """Write the table; files are written atomically.

    Args:
        form: one of `FORMS`.
        read: function from a path to an 8-bit RGB image, for the thumbnails of a page.
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
    """Provide a temporary path; its content is copied to a stream if the block succeeds."""
    with tempfile.TemporaryDirectory() as folder:
        yield (part := Path(folder, "table"))
        sys.stdout.flush()
        # Do not reopen an open file: that would truncate a file that the shell redirects to.
        try:
            with open(os.dup(int(number)) if (number := _open_file(path)) else path, "wb") as stream:
                stream.write(part.read_bytes())
        except OSError as error:  # name the stream; the type, such as BrokenPipeError, is kept
            raise OSError(error.errno, error.strerror, str(path)) from None


def _write_json(path: Path, table: pd.DataFrame) -> None:
    # Convert float32 through NumPy, so that numbers have the same digits as in CSV.
    columns = [map(_plain, table[name].to_numpy()) for name in table]
    with path.open("w", encoding="utf-8") as file:
        for row in zip(*columns, strict=True):
            file.write(json.dumps(dict(zip(table, row, strict=True)), ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    """Convert a cell for JSON; missing values become null."""
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else float(str(value))


def write_page(path: Path, table: pd.DataFrame, read: Callable[[str], Image.Image]) -> None:
    """Write the HTML page: one row per image with thumbnail, name, quality, top scene and top distortion.

    Images without a score come last, with the reason.

    Args:
        table: from `Prediction.to_frame`, names escaped by `files.escaped`.
        read: function from a path to an 8-bit RGB image; an image that fails to load has no thumbnail.
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
        title = f"{table['quality'].notna().sum()} of {len(table)} images scored"
        page = string.Template(PAGE.read_text(encoding="utf-8")).safe_substitute(title=title, heads=shown)
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
    """Return an HTML element with the image as an embedded JPEG, which browsers decode lazily."""
    image.thumbnail((SIDE, SIDE))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY)
    data = base64.b64encode(jpeg.getvalue()).decode("ascii")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img loading="lazy" decoding="async" alt="" {size} src="data:image/jpeg;base64,{data}">'
