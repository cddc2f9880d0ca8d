"""``liqe notebooks`` runs notebooks with papermill, following the rules of ``notebooks/rules.mk``.

``liqe pages`` builds a site from executed notebooks, the docstrings and the model card.

The rules run one notebook with::

    python -m liqe_core.commands.notebooks SOURCE TARGET PARAMETERS.yaml
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from liqe_core.commands.options import values
from liqe_core.files import CHECKOUT, runs_dir, write_text
from liqe_core.intake.stopping import StopRequested, stoppable

if TYPE_CHECKING:
    import nbformat

#: Seconds that an interrupted kernel has to finish its step and save the training state.
PATIENCE = 600

NOTEBOOKS = CHECKOUT / "notebooks"
#: Sources of the site in addition to executed notebooks: the settings of Sphinx and the other pages.
SOURCES = CHECKOUT / "docs"
#: Pattern of the notebooks' file names.
BOOKS = "[0-9][0-9]*_*.ipynb"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_ROWS = 60  # longer result tables are not shown on the site


@dataclasses.dataclass(frozen=True)
class Executed:
    """An executed notebook.

    Attributes:
        notebook: the executed copy; if a cell failed, with the suffix ``.failed.ipynb``.
        seconds: run time.
        error: name and message of the exception if a cell failed, otherwise empty.
        traceback: traceback of that exception as text without colors.
    """

    notebook: Path
    seconds: float = 0.0
    error: str = ""
    traceback: str = ""


def execute(source: Path, target: Path, parameters: Mapping[str, object]) -> Executed:
    """Run one notebook in the current folder; its results go to the folder of `target`.

    A signal is forwarded to the running cell and raised after the cell has ended.

    Args:
        target: file of the executed copy, written when all cells have run.
        parameters: parameters of the notebook; names that it does not declare are ignored.
    """
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    target.parent.mkdir(parents=True, exist_ok=True)
    failed, part = target.with_suffix(".failed.ipynb"), target.with_suffix(".part.ipynb")
    declared = papermill.inspect_notebook(str(source))
    known = {name: value for name, value in parameters.items() if name in declared}
    if "out_dir" in declared:
        known["out_dir"] = str(target.parent.resolve())
    started, error, traceback = time.perf_counter(), "", ""
    with tempfile.TemporaryDirectory(prefix="liqe-") as sockets:
        # Use IPC: over TCP, every kernel warns that other users of the machine could connect.
        local = {"transport": "ipc", "ip": f"{sockets}/k"} if os.name == "posix" and len(sockets) < 80 else {}
        try:
            papermill.execute_notebook(
                str(source),
                str(part),
                known,
                kernel_name="python3",
                progress_bar=False,
                config=Config(KernelManager={"shutdown_wait_time": PATIENCE, **local}),
            )
        except PapermillExecutionError as fault:
            error = f"{fault.ename}: {fault.evalue}"
            traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(fault.traceback))
        except DeadKernelError:  # killed, for example out of memory; the notebook has no error output
            error = "DeadKernelError: the kernel process was killed; check whether memory ran out"
        finally:
            if not (loop := ensure_event_loop()).is_running():
                loop.close()  # papermill leaves the loop of this thread open
            if part.exists():
                part.replace(failed if error or sys.exc_info()[0] else target)
    if not error:
        failed.unlink(missing_ok=True)
    seconds = round(time.perf_counter() - started, 1)
    return Executed(failed if error else target, seconds, error, traceback)


def main(arguments: Sequence[str]) -> int:
    """Run one notebook for Make on its share of the cores, and return the exit code."""
    import yaml

    source, target, parameters = map(Path, arguments)
    jobs = re.search(r"-j(\d+)", os.environ.get("MAKEFLAGS", ""))
    if jobs:  # otherwise the threads of parallel notebooks would compete for the same cores
        share = max(1, (os.cpu_count() or 1) // int(jobs[1]))
        os.environ.setdefault("OMP_NUM_THREADS", str(share))
    try:
        with stoppable():
            executed = execute(source, target, yaml.safe_load(parameters.read_text(encoding="utf-8")))
    except StopRequested as stop:
        print(f"{source.stem:28} stopped", file=sys.stderr, flush=True)
        return stop.code
    print(f"{source.stem:28} {executed.seconds:6.0f} s  {executed.error or 'ok'}", flush=True)
    if executed.error:
        print(f"See the failed cell and its traceback in {executed.notebook}", file=sys.stderr, flush=True)
    return 1 if executed.error else 0


def run_all(names: Sequence[str], out: Path, parameters: Mapping[str, object], at_once: int = 1) -> int:
    """Run notebooks with the rules of ``notebooks/rules.mk``, including those that were executed before.

    If a notebook fails, only the notebooks that read its results are skipped.

    Args:
        names: names without suffix.
        out: folder of the run.
        parameters: parameters of all notebooks; each notebook uses those that it declares.
        at_once: number of notebooks to run in parallel.

    Returns:
        The exit code of Make.

    Raises:
        OSError: the folder cannot be created.
        StopRequested: a signal arrived; it was forwarded to the running cells, and they have ended.
    """
    write_parameters(out, parameters)
    command = ["make", *f"--no-print-directory -skB -j{at_once} -f".split(), str(NOTEBOOKS / "rules.mk")]
    command += [f"RUN={out}", f"BOOKS={' '.join(names)}", f"LIQE_PYTHON={sys.executable}"]
    with stoppable():
        process = subprocess.Popen(command, start_new_session=True)
        try:
            return process.wait()
        except StopRequested:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise


def write_parameters(out: Path, parameters: Mapping[str, object]) -> None:
    """Write ``params.yaml`` of a run if it changes; Make compares its modification time."""
    import yaml  # imported late, so that `liqe --help` does not need it

    path, text = out / "params.yaml", yaml.safe_dump(dict(parameters), allow_unicode=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def find_name(name: str) -> str:
    """Find a notebook by its file, its number or its title: ``02``, ``concepts``.

    Raises:
        ValueError: no such notebook.
    """
    stem, books = Path(name).stem, available()
    found = [book for book in books if stem in (book, *book.split("_", 1))]
    if not found:
        raise ValueError(f"no notebook {name}; choose from {', '.join(books)}")
    return found[0]


def available() -> list[str]:
    """Return the names of the notebooks in order."""
    return sorted(path.stem for path in NOTEBOOKS.glob(BOOKS))


def can_build_site() -> bool:
    """Whether the extra `site` is installed and the site's sources, part of a clone, are present."""
    tools = ("myst_nb", "sphinx_book_theme", "sphinx-mathjax-offline")
    return SOURCES.is_dir() and all(find_spec(tool) for tool in tools)


def build_site(folder: str | Path, out: str | Path | None = None) -> Path:
    """Build a site from the executed notebooks in a folder; an older site is replaced only on success.

    Args:
        folder: folder of executed notebooks, from `run_all`.
        out: folder of the site; default: ``site`` in `folder`.

    Returns:
        The first page of the site.

    Raises:
        ValueError: the folder has no executed notebook, or the extra `site` is not installed.
        ChildProcessError: Sphinx failed; the message has the end of its output.
    """
    import nbformat

    folder = Path(folder).resolve()
    out = Path(out or folder / "site").resolve()
    books = [path for name in available() if (path := folder / f"{name}.ipynb").is_file()]
    if not can_build_site():
        raise ValueError("building the site needs a clone of the repository; in it, pip install -e '.[site]'")
    if not books:
        raise ValueError(f"no executed notebook in {folder}; run some first with `liqe notebooks`")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".site.") as made:
        source, pages, old = (Path(made) / name for name in ("source", "pages", "old"))
        shutil.copytree(SOURCES, source)
        shutil.copy(CHECKOUT / "CONTRIBUTING.md", source / "contributing.md")
        shutil.copy(CHECKOUT / "liqe_core" / "weights" / "liqe-tiny.md", source)
        # Files from other folders of the repository are copied next to these pages.
        for document in source.glob("*.md"):
            text = document.read_text(encoding="utf-8").replace("](../CONTRIBUTING.md", "](contributing.md")
            write_text(document, re.sub(r"\]\(\.\./(liqe_core/weights|notebooks/images)/", "](", text))
        shutil.copy(NOTEBOOKS / "images" / "fault_curves.png", source)
        for path in books:
            book = for_reading(nbformat.read(path, as_version=4), {path.stem for path in books})
            write_text(source / path.name, without_local_paths(nbformat.writes(book), folder))
        with (source / "results.md").open("a", encoding="utf-8") as page:
            for table in sorted((CHECKOUT / "data_manifests" / "open").glob("*.csv")):
                if len(table.read_text(encoding="utf-8").splitlines()) <= _ROWS:
                    shutil.copy(table, source)
                    options = f":file: {table.name}\n:header-rows: 1"
                    page.write(f"\n```{{csv-table}} {table.stem}\n{options}\n```\n")
        command = [sys.executable, "-m", "sphinx", "-q", "-j", "auto", "-d", str(Path(made) / "doctrees")]
        done = subprocess.run([*command, str(source), str(pages)], capture_output=True, text=True)
        if done.returncode:
            raise ChildProcessError(f"the site was not built; output of Sphinx:\n{done.stderr[-2000:]}")
        print(done.stderr, end="", file=sys.stderr)  # warnings
        # Unneeded files of the theme: source maps (a quarter of all bytes) and templates.
        for unneeded in [*pages.rglob("*.map"), *(pages / "_static").glob("*macros.html")]:
            unneeded.unlink()
        shutil.rmtree(pages / "_static" / "locales", ignore_errors=True)  # translations of the theme
        if out.exists():
            out.rename(old)
        pages.rename(out)
    return out / "index.html"


def for_reading(book: nbformat.NotebookNode, pages: set[str]) -> nbformat.NotebookNode:
    """Prepare an executed notebook for the static site.

    Widgets are removed, links to notebooks without a page become text, missing values in tables become
    dashes, and solutions are collapsed.

    Args:
        book: notebook, modified in place.
        pages: names of the notebooks that have a page.
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
        if "injected-parameters" in cell.metadata.get("tags", []):  # hide local folders
            cell.source = re.sub(r"(?<=\")/[^\"\n]*/(?=[^\"/\n]+\")", ".../", cell.source)
        cell.outputs = [output for output in cell.outputs if _WIDGET not in output.get("data", {})]
        for output in cell.outputs:
            if table := output.get("data", {}).get("text/html"):
                output.data["text/html"] = re.sub(r"(?<=<td>)(NaN|&lt;NA&gt;)(?=</td>)", "–", table)
    book.metadata.pop("widgets", None)
    return book


def without_local_paths(text: str, folder: Path) -> str:
    """Replace local paths in a notebook's JSON by paths relative to the repository."""
    inside = folder.is_relative_to(CHECKOUT)
    places = {
        str(folder): folder.relative_to(CHECKOUT).as_posix() if inside else folder.name,
        f"{CHECKOUT}/": "",
        f"{sys.prefix}/lib/": "lib/",
        f"{Path.home()}/": "~/",
    }
    for place, short in places.items():
        text = re.sub(rf"(?<![\w./-]){re.escape(json.dumps(place)[1:-1])}", short, text)
    return text


def run_notebooks(options: argparse.Namespace) -> int:
    """Run notebooks."""
    from liqe_core.commands.parameters import check_for

    if not (NOTEBOOKS / "rules.mk").is_file():
        raise ValueError("the notebooks are not part of the package; run this in a clone of the repository")
    if find_spec("papermill") is None:  # fail here once rather than in the process of each notebook
        raise ModuleNotFoundError(name="papermill")
    names = list(dict.fromkeys(map(find_name, options.names)))
    names = names or [name for name in available() if not name.startswith("9")]
    parameters = check_for(names, {"profile": options.profile} | values(options.p))
    out = Path(options.out or parameters.pop("out_dir", "") or runs_dir(parameters["profile"])).resolve()
    print(f"Results are written to {out}", flush=True)
    try:
        failed = run_all(names, out, parameters, options.at_once)
    except StopRequested as stop:
        message = f"stopped; run the same command again to resume training: {out}"
        raise StopRequested(stop.signal, message) from None
    tables = sorted(out.glob("multitask_training/**/summary.txt"), key=lambda path: path.stat().st_mtime)
    if "04_multitask_training" in names and tables:  # one folder per set of parameters
        print(f"\n{tables[-1].read_text(encoding='utf-8').rstrip()}")
    if options.names:
        print(f"\nThe executed notebooks are in {out}; to build a site, run: liqe pages --out {out}")
    elif can_build_site():
        print("\nBuilding the site ...", flush=True)
        print(f"The site has a page for each executed notebook: {build_site(out)}")
    else:
        print(f"\nThe executed notebooks are in {out}; to build a site, install the extra `site`: liqe pages")
    return 1 if failed else 0


def run_pages(options: argparse.Namespace) -> int:
    """Build the site."""
    print(f"Site: {build_site(options.out or runs_dir(options.profile))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
