"""A site to read, from notebooks that were run, the docstrings and the model card."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from liqe_core.files import CHECKOUT

if TYPE_CHECKING:
    import nbformat

NOTEBOOKS = CHECKOUT / "notebooks"
#: What the site is made from, beside executed notebooks: Sphinx's settings, and the other pages.
SOURCES = CHECKOUT / "docs"
#: The names of the notebooks' files.
BOOKS = "[0-9][0-9]*_*.ipynb"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_LARGE = 100_000  # bytes of a figure that may be a photograph
_ROWS = 60  # a longer table of results is no page to read


def available() -> list[str]:
    """The names of the notebooks, in their order."""
    return sorted(path.stem for path in NOTEBOOKS.glob(BOOKS))


def is_installed() -> bool:
    """Whether what builds the site is there (the extra `site`), and its sources, which come with a clone."""
    tools = ("myst_nb", "sphinx_book_theme", "sphinx-mathjax-offline")
    return SOURCES.is_dir() and all(find_spec(tool) for tool in tools)


def build(folder: str | Path, out: str | Path | None = None) -> Path:
    """Build the site of the executed notebooks in a folder; an older one stays until the new one is whole.

    Args:
        folder: of executed notebooks, as `notebooks.run_all` leaves it.
        out: the site's folder; default: ``site`` in `folder`.

    Returns:
        Its first page.

    Raises:
        ValueError: there is no executed notebook, or what builds the site is not installed.
        ChildProcessError: Sphinx failed; with the end of what it said.
    """
    import nbformat

    folder = Path(folder).resolve()
    out = Path(out or folder / "site").resolve()
    books = [path for name in available() if (path := folder / f"{name}.ipynb").is_file()]
    if not is_installed():
        raise ValueError("the site needs a clone of the repository, and in it: pip install -e '.[site]'")
    if not books:
        raise ValueError(f"no executed notebook in {folder}: run some first, with liqe notebooks")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".site.") as made:
        source, pages, old = (Path(made) / name for name in ("source", "pages", "old"))
        shutil.copytree(SOURCES, source)
        shutil.copy(CHECKOUT / "CONTRIBUTING.md", source / "contributing.md")
        shutil.copy(CHECKOUT / "liqe_core" / "weights" / "liqe-tiny.md", source)
        # What lies elsewhere in the repository is beside these pages on the site.
        beside = {"../CONTRIBUTING.md": "contributing.md", "../liqe_core/weights/": ""}
        for document in source.glob("*.md"):
            text = document.read_text(encoding="utf-8")
            for target, name in beside.items():
                text = text.replace(f"]({target}", f"]({name}")
            document.write_text(text, encoding="utf-8")
        shutil.copy(NOTEBOOKS / "images" / "answer.png", source)
        for path in books:
            book = for_reading(nbformat.read(path, as_version=4), {path.stem for path in books})
            (source / path.name).write_text(_without_places(nbformat.writes(book), folder), encoding="utf-8")
        with (source / "results.md").open("a", encoding="utf-8") as page:
            for table in sorted((CHECKOUT / "data_manifests" / "open").glob("*.csv")):
                if len(table.read_text(encoding="utf-8").splitlines()) <= _ROWS:
                    shutil.copy(table, source)
                    options = f":file: {table.name}\n:header-rows: 1"
                    page.write(f"\n```{{csv-table}} {table.stem}\n{options}\n```\n")
        # Sphinx hands pages out in as many parts; with one a core, one would read all of the reference.
        parts = str(2 * (os.cpu_count() or 1))
        command = [sys.executable, "-m", "sphinx", "-q", "-j", parts, "-d", str(Path(made) / "doctrees")]
        done = subprocess.run([*command, str(source), str(pages)], capture_output=True, text=True)
        if done.returncode:
            raise ChildProcessError(f"the site was not built. Sphinx says:\n{done.stderr[-2000:]}")
        print(done.stderr, end="", file=sys.stderr)  # warnings, of which a good page gives none
        # Of the theme: for debuggers, a quarter of all bytes, and what its own pages were made from.
        for unneeded in [*pages.rglob("*.map"), *(pages / "_static").glob("*macros.html")]:
            unneeded.unlink()
        shutil.rmtree(pages / "_static" / "locales", ignore_errors=True)  # its words in other languages
        if out.exists():
            out.rename(old)
        pages.rename(out)
    return out / "index.html"


def for_reading(book: nbformat.NotebookNode, pages: set[str]) -> nbformat.NotebookNode:
    """An executed notebook without what is alive only in Jupyter.

    Widgets go (their progress bars would stand still), of a line that was written over only its end stays,
    a link to a notebook that has no page becomes text, a table's empty cell a dash; photographs are JPEG,
    and solutions are folded.

    Args:
        book: is changed.
        pages: names of the notebooks that have one.
    """
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(
                r"\[([^\]]+)\]\((\d\d\w+)\.ipynb\)",
                lambda link: link[0] if link[2] in pages else link[1],
                cell.source,
            )
        if cell.cell_type != "code":
            continue
        if cell.metadata.get("jupyter", {}).get("source_hidden"):  # a solution
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-cell"]
        if "injected-parameters" in cell.metadata.get("tags", []):  # somebody's own folders
            cell.source = re.sub(r"(?<=\")/[^\"\n]*/(?=[^\"/\n]+\")", ".../", cell.source)
        cell.outputs = [output for output in cell.outputs if _WIDGET not in output.get("data", {})]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
            if table := output.get("data", {}).get("text/html"):
                output.data["text/html"] = re.sub(r"(?<=<td>)(NaN|&lt;NA&gt;)(?=</td>)", "–", table)
            _lighter(output)
    book.metadata.pop("widgets", None)
    return book


def _lighter(output: nbformat.NotebookNode) -> None:
    """A figure that is half as large or less as JPEG, as one with photographs is, kept so."""
    data, metadata = output.get("data", {}), output.get("metadata", {})
    png = base64.b64decode(data.get("image/png", ""))
    if len(png) < _LARGE:
        return
    jpeg = io.BytesIO()
    with Image.open(io.BytesIO(png)) as opened:
        drawn = opened.convert("RGBA")
    ground = Image.new("RGBA", drawn.size, "white")
    # Colours at full resolution: letters would have fringes.
    Image.alpha_composite(ground, drawn).convert("RGB").save(jpeg, "JPEG", quality=90, subsampling=0)
    if 2 * len(jpeg.getvalue()) <= len(png):
        del data["image/png"]
        data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()
        metadata["image/jpeg"] = metadata.pop("image/png", {})


def _without_places(text: str, folder: Path) -> str:
    """Paths of this machine as seen from the repository, in a notebook's JSON."""
    inside = folder.is_relative_to(CHECKOUT)
    places = {
        str(folder): folder.relative_to(CHECKOUT).as_posix() if inside else folder.name,
        f"{CHECKOUT}/": "",
        f"{sys.prefix}/lib/": "lib/",
        f"{Path.home()}/": "~/",
    }
    for place, short in places.items():
        text = re.sub(rf"(?<![\w./-]){re.escape(json.dumps(place)[1:-1])}", short, text)
    # What a kernel calls a cell in tracebacks, in the folder for temporary files wherever that is. Line by
    # line: a figure is one of millions of characters, in which every slash might begin a path.
    cell = re.compile(r"(?:/[\w.+-]+)+/ipykernel_\d+/\d+\.py")
    return "".join(
        cell.sub("cell", line) if "ipykernel_" in line else line for line in text.splitlines(keepends=True)
    )
