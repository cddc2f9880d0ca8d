"""``liqe notebooks``: run the notebooks with papermill, and make a site of what they show."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from liqe_core.commands import pages
from liqe_core.commands.options import add_pairs, add_profile, values, whole_number
from liqe_core.files import runs_dir
from liqe_core.intake.progress import tqdm
from liqe_core.intake.stopping import stoppable

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = pages.NOTEBOOKS
#: Which notebook makes what another goes on from; without it that one would make the same once more.
NEEDS = {
    "04_multitask_training": "03_data_preparation",  # the data set
    "05_ablations": "03_data_preparation",
    "10_paper_tables": "04_multitask_training",  # the runs whose confusion is shown
    "07_gmad": "05_ablations",  # the models that compete
    "08_realignment": "05_ablations",
}


@dataclasses.dataclass(frozen=True)
class Executed:
    """One notebook that was run.

    Attributes:
        name: without suffix. path: the executed copy. seconds: how long it took.
        error: the exception's name and message where a cell failed, else empty.
        traceback: of that exception, as text without colours.
    """

    name: str
    path: Path
    seconds: float
    error: str = ""
    traceback: str = ""


def available(folder: str | Path | None = None) -> list[str]:
    """The names of the notebooks, in their order."""
    return sorted(path.stem for path in Path(folder or FOLDER).glob(pages.BOOKS))


def run(
    names: Sequence[str],
    out_dir: str | Path,
    parameters: Mapping[str, object],
    progress: bool = True,
    folder: str | Path | None = None,
    at_once: int = 1,
) -> list[Executed]:
    """Execute notebooks; one that fails does not keep the others from running.

    They run in the caller's current folder, so that a path among the parameters is what it is for the shell.
    A KeyboardInterrupt is passed on to the cells that run, and then raised: what they train saves its state.

    Args:
        names: without suffix, as `available` lists them.
        out_dir: where the executed copies go, and the notebooks' own products (their parameter `out_dir`).
        parameters: given to every notebook that declares a parameter of that name.
        folder: where the notebooks are; default: ``notebooks/`` of the checkout.
        at_once: how many run at the same time; the cores are shared among them. In the order of `names`, but
            none before the one that it goes on from (`NEEDS`).

    Returns:
        In the order of `names`.

    Raises:
        ValueError: no such notebook.
        OSError: the folder cannot be made.
    """
    folder, names = Path(folder or FOLDER), list(dict.fromkeys(names))
    _refuse_unknown(names, folder)
    out_dir = Path(out_dir).resolve()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{out_dir}, the folder for what is made, cannot be made: {error.strerror}"
        raise OSError(f"{why}; name another with --out (out_dir)") from error
    alone = at_once == 1
    waiting, executed = list(names), {}
    running: dict[Future[Executed], str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="liqe-") as sockets,
        _cores_shared(at_once),
        ThreadPoolExecutor(at_once) as threads,
        tqdm(total=len(names), unit="notebooks", disable=alone or not progress) as bar,
    ):
        kernels = _Kernels(sockets)
        try:
            while waiting or running:
                for name in list(waiting):
                    if len(running) < at_once and NEEDS.get(name) not in {*waiting, *running.values()}:
                        waiting.remove(name)
                        arguments = (folder / f"{name}.ipynb", out_dir, parameters, alone and progress)
                        running[threads.submit(_execute, *arguments, kernels)] = name
                bar.set_postfix_str(", ".join(running.values()))
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    executed[running.pop(done)] = done.result()
                    bar.n += 1  # shown with the names of those that run then
            bar.set_postfix_str("")
        except BaseException:
            kernels.interrupt(running)
            raise
    return [executed[name] for name in names]


def _execute(
    source: Path, out_dir: Path, parameters: Mapping[str, object], progress: bool, kernels: _Kernels
) -> Executed:
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    target = out_dir / source.name
    declared = papermill.inspect_notebook(str(source))
    given = {k: v for k, v in {**parameters, "out_dir": str(out_dir)}.items() if k in declared}
    options = {"kernel_name": "python3", "progress_bar": progress, **kernels.options()}
    started, error, traceback = time.perf_counter(), "", ""
    try:
        papermill.execute_notebook(str(source), str(target), given, **options)
    except PapermillExecutionError as failed:
        error = f"{failed.ename}: {failed.evalue}"
        traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(failed.traceback))
    except DeadKernelError:  # killed, or out of memory: nothing in the notebook could say so
        error = "DeadKernelError: its process was ended from outside; is there enough memory?"
    finally:
        ensure_event_loop().close()  # this thread's, which papermill has left open
    return Executed(source.stem, target, time.perf_counter() - started, error, traceback)


class _Kernels:
    """The kernels of notebooks that run side by side, which know of an interrupt as in Jupyter.

    Args:
        sockets: a folder, of a short path, for those through which kernels are talked to.
    """

    def __init__(self, sockets: str):
        from jupyter_client.manager import AsyncKernelManager

        started: list[AsyncKernelManager] = []

        class Kernel(AsyncKernelManager):
            def __init__(self, **given):
                super().__init__(**given)
                started.append(self)

        self._class, self._started, self._stopping = Kernel, started, False
        self._sockets, self._places = sockets, itertools.count()

    def options(self) -> dict[str, object]:
        """For one notebook: what papermill passes on to what starts the kernel and talks to it."""
        from traitlets.config import Config

        # Not over TCP, where every kernel would warn that others on this machine might listen. Each has a
        # place of its own, for kernels of one place would be taken for each other.
        by = {"transport": "ipc", "ip": f"{self._sockets}/{next(self._places)}"}
        return {
            "config": Config(KernelManager=by if os.name == "posix" and len(self._sockets) < 80 else {}),
            "kernel_manager_class": self._class,
            "on_cell_start": self._go_on,
            # Each is interrupted before it is shut down, which one not quite at rest would tell as an error.
            "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
        }

    def _go_on(self, cell: NotebookNode, cell_index: int) -> None:
        if self._stopping:  # between two cells, a kernel takes no notice of an interrupt
            raise InterruptedError(f"stopped before cell {cell_index}")

    def interrupt(self, running: Mapping[Future[Executed], str]) -> None:
        """Interrupt until no notebook runs: one may be about to start. Each kernel once, since a second time
        would keep what it trains from saving its state."""
        from jupyter_core.utils import run_sync

        self._stopping, told = True, set()
        while not all(future.done() for future in running):
            for kernel in self._started:
                if kernel.has_kernel and kernel not in told:
                    told.add(kernel)
                    with contextlib.suppress(RuntimeError):  # it has just ended
                        run_sync(kernel.interrupt_kernel)()
            wait(running, timeout=0.2)


@contextlib.contextmanager
def _cores_shared(at_once: int) -> Iterator[None]:
    """In the block, a process that is started takes its share of the cores. Threads of one process would
    otherwise wait for a core on which another's are."""
    name, before = "OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS")
    if before is None and at_once > 1:
        os.environ[name] = str(max(1, (os.cpu_count() or 1) // at_once))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)


def _named(given: str) -> str:
    """The name of a notebook, for which its file, its number or its words will do: ``02``, ``concepts``."""
    name = Path(given).stem
    return next((book for book in available() if name in book.split("_", 1)), name)


def _refuse_unknown(names: Sequence[str], folder: Path) -> None:
    if unknown := sorted(set(names) - set(available(folder))):
        raise ValueError(f"no notebook {', '.join(unknown)}; there are {', '.join(available(folder))}")


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    notebooks = commands.add_parser("notebooks", help="run the notebooks, and make a site of them")
    notebooks.add_argument("names", nargs="*", help="which, such as 02; default: all that belong to the demo")
    add_profile(notebooks)
    add_pairs(notebooks, "-p", name="NAME", text="a parameter of the notebooks, as JSON or text")
    notebooks.add_argument(
        "--at-once",
        type=whole_number,
        default=1,
        metavar="N",
        help="how many run at the same time; default: 1",
    )
    notebooks.set_defaults(run=_notebooks)


def _notebooks(options: argparse.Namespace) -> int:
    from liqe_core.commands.parameters import of_notebooks

    names = [_named(name) for name in options.names]
    names = names or [name for name in available() if not name.startswith("9")]
    _refuse_unknown(names, FOLDER)
    given = {"profile": options.profile} | values(options.p)
    given = of_notebooks([FOLDER / f"{name}.ipynb" for name in names], given)
    out = Path(options.out or given.get("out_dir") or runs_dir(given["profile"]))
    print(f"Each cell's result is, as soon as it is there, in {out}", flush=True)
    try:
        with stoppable():
            executed = run(names, out, given, at_once=options.at_once)
    except KeyboardInterrupt:
        print(
            f"\nWhat was being trained goes on from where it is with the same command: {out}", file=sys.stderr
        )
        raise
    print()
    for one in executed:
        print(f"{one.name:28} {one.seconds:6.0f} s  {one.error or 'ok'}")
    for one in executed:
        if one.error:
            print(f"\n{one.name} failed: {one.error}\nWhere, is in {one.path}", file=sys.stderr)
    table = out / "multitask_training" / "summary.txt"
    if "04_multitask_training" in names and table.exists():
        print(f"\n{table.read_text(encoding='utf-8').rstrip()}")
    if options.names:
        print(f"\nThe executed notebooks are in {out}; a site of all that are there: liqe pages --out {out}")
    elif pages.installed():
        print("\nMaking a site of them ...", flush=True)
        print(f"The site, with a page for each executed notebook: {pages.build(out)}")
    else:
        print(f"\nThe executed notebooks are in {out}; as a site, with the extra `site`: liqe pages")
    return 1 if any(one.error for one in executed) else 0
