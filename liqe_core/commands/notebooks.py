"""``liqe notebooks``: run notebooks with papermill, as the rules of ``notebooks/rules.mk`` say.

As a program, what those rules call for one notebook::

    python -m liqe_core.commands.notebooks SOURCE TARGET PARAMETERS.yaml
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from liqe_core.commands import site
from liqe_core.commands.options import add_pairs, add_profile, values, whole_number
from liqe_core.files import atomic_path, runs_dir
from liqe_core.intake.stopping import StopRequested, stoppable

#: Seconds that an interrupted kernel has to save the state of a training.
PATIENCE = 600


@dataclasses.dataclass(frozen=True)
class Executed:
    """One notebook that was run.

    Attributes:
        path: the executed copy; of one that failed, with the suffix ``.failed.ipynb``.
        seconds: how long it took.
        error: the exception's name and message where a cell failed, else empty.
        traceback: of that exception, as text without colours.
    """

    path: Path
    seconds: float
    error: str = ""
    traceback: str = ""


def execute(source: Path, target: Path, parameters: Mapping[str, object]) -> Executed:
    """Run one notebook in the caller's current folder; its results go to the folder of `target`.

    A signal is passed on to the cell that runs, and raised when that has ended.

    Args:
        target: the executed copy, which is there when all cells have run.
        parameters: those that the notebook does not declare are left out.
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
        # Not over TCP, where every kernel would warn that others on this machine might listen.
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
        except DeadKernelError:  # killed, or out of memory: nothing in the notebook could say so
            error = "DeadKernelError: its process was ended from outside; is there enough memory?"
        finally:
            ensure_event_loop().close()  # this thread's, which papermill has left open
            if part.exists():
                part.replace(failed if error or sys.exc_info()[0] else target)
    if not error:
        failed.unlink(missing_ok=True)
    return Executed(failed if error else target, time.perf_counter() - started, error, traceback)


def main(arguments: Sequence[str]) -> int:
    """Run one notebook for Make, on its share of the cores; returns the exit code."""
    source, target, parameters = map(Path, arguments)
    jobs = re.search(r"-j(\d+)", os.environ.get("MAKEFLAGS", ""))
    if jobs:  # threads of one process would otherwise wait for a core on which another's are
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
        print(f"The cell and its traceback are in {executed.path}", file=sys.stderr, flush=True)
    return 1 if executed.error else 0


def run_all(names: Sequence[str], out: Path, parameters: Mapping[str, object], at_once: int = 1) -> int:
    """Run notebooks by the rules of ``notebooks/rules.mk``, also those that were run before. One that fails
    keeps none from running but those that read what it makes.

    Args:
        names: without suffix. out: the folder of the run.
        parameters: for all of them; each takes those that it has.
        at_once: how many run at the same time.

    Returns:
        Make's exit code.

    Raises:
        OSError: the folder cannot be made.
        StopRequested: a signal came; it was passed on to the cells that run, and they have ended.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{out}, the folder for what is made, cannot be made: {error.strerror}"
        raise OSError(f"{reason}; name another with --out (out_dir)") from error
    write_parameters(out, parameters)
    command = [
        "make",
        "--no-print-directory",
        "-s",
        "-k",
        "-B",
        f"-j{at_once}",
        "-f",
        str(site.NOTEBOOKS / "rules.mk"),
    ]
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
    """``params.yaml`` of a run, which is written only where it changes: notebooks are made from it."""
    path, text = out / "params.yaml", yaml.safe_dump(dict(parameters), allow_unicode=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8")


def find_name(name: str) -> str:
    """The name of a notebook, for which its file, its number or its words will do: ``02``, ``concepts``.

    Raises:
        ValueError: no such notebook.
    """
    stem, books = Path(name).stem, site.available()
    found = [book for book in books if stem in (book, *book.split("_", 1))]
    if not found:
        raise ValueError(f"no notebook {name}; choose from {', '.join(books)}")
    return found[0]


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the commands ``notebooks`` and ``pages``; each sets ``run``, a function of the options that returns
    the exit code."""
    notebooks = commands.add_parser("notebooks", help="run the notebooks, and make a site of them")
    notebooks.add_argument("names", nargs="*", help="which, such as 02; default: all that belong to the demo")
    add_profile(notebooks)
    add_pairs(notebooks, "-p", name="NAME", text="a parameter of the notebooks, as JSON or text")
    text = "how many run at the same time; default: 1"
    notebooks.add_argument("--at-once", type=whole_number, default=1, metavar="N", help=text)
    notebooks.set_defaults(run=_notebooks)
    pages = commands.add_parser("pages", help="make a site from notebooks that were run")
    add_profile(pages)
    pages.set_defaults(run=_pages)


def _notebooks(options: argparse.Namespace) -> int:
    from liqe_core.commands.parameters import check_for

    names = list(dict.fromkeys(map(find_name, options.names)))
    names = names or [name for name in site.available() if not name.startswith("9")]
    parameters = check_for(names, {"profile": options.profile} | values(options.p))
    out = Path(options.out or parameters.pop("out_dir", "") or runs_dir(parameters["profile"])).resolve()
    print(f"Each notebook's results appear in {out}", flush=True)
    try:
        failed = run_all(names, out, parameters, options.at_once)
    except StopRequested as stop:
        message = f"stopped; the same command resumes what was being trained: {out}"
        raise StopRequested(stop.signal, message) from None
    table = out / "multitask_training" / "summary.txt"
    if "04_multitask_training" in names and table.exists():
        print(f"\n{table.read_text(encoding='utf-8').rstrip()}")
    if options.names:
        print(f"\nThe executed notebooks are in {out}; a site of them: liqe pages --out {out}")
    elif site.is_installed():
        print("\nMaking a site of them ...", flush=True)
        print(f"The site, with a page for each executed notebook: {site.build(out)}")
    else:
        print(f"\nThe executed notebooks are in {out}; as a site, with the extra `site`: liqe pages")
    return 1 if failed else 0


def _pages(options: argparse.Namespace) -> int:
    print(f"The site: {site.build(options.out or runs_dir(options.profile))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
