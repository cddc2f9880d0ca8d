"""``liqe notebooks``: run the notebooks with papermill, and make a site of what they show."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from liqe_core.commands import pages
from liqe_core.commands.options import add_pairs, add_profile, values
from liqe_core.files import runs_dir

FOLDER = pages.NOTEBOOKS


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
) -> list[Executed]:
    """Execute notebooks one after the other; one that fails does not keep the others from running.

    They run in the caller's current folder, so that a path among the parameters is what it is for the shell.

    Args:
        names: without suffix, as `available` lists them.
        out_dir: where the executed copies go, and the notebooks' own products (their parameter `out_dir`).
        parameters: given to every notebook that declares a parameter of that name.
        folder: where the notebooks are; default: ``notebooks/`` of the checkout.

    Raises:
        ValueError: no such notebook.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    folder = Path(folder or FOLDER)
    _refuse_unknown(names, folder)
    out_dir = Path(out_dir).resolve()
    out_dir.mkdir(parents=True, exist_ok=True)
    executed = []
    with tempfile.TemporaryDirectory(prefix="liqe-") as sockets:
        # Not over TCP, where every kernel would warn that others on this machine might listen. Sockets of one
        # place would be taken for each other's: notebooks may run side by side.
        by = {"transport": "ipc", "ip": f"{sockets}/kernel"}
        config = Config(KernelManager=by if os.name == "posix" and len(sockets) < 80 else {})
        for name in names:
            source, target = folder / f"{name}.ipynb", out_dir / f"{name}.ipynb"
            declared = papermill.inspect_notebook(str(source))
            given = {k: v for k, v in {**parameters, "out_dir": str(out_dir)}.items() if k in declared}
            started, error, traceback = time.perf_counter(), "", ""
            try:
                papermill.execute_notebook(
                    str(source),
                    str(target),
                    given,
                    kernel_name="python3",
                    progress_bar=progress,
                    config=config,
                )
            except PapermillExecutionError as failed:
                error = f"{failed.ename}: {failed.evalue}"
                traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(failed.traceback))
            except DeadKernelError:  # killed, or out of memory: nothing in the notebook could say so
                error = "DeadKernelError: its process was ended from outside; is there enough memory?"
            executed.append(Executed(name, target, time.perf_counter() - started, error, traceback))
    return executed


def _named(given: str) -> str:
    """The name of a notebook, for which its file or its number will do: ``02``."""
    name = Path(given).stem
    numbered = [one for one in available() if one.split("_")[0] == name]
    return numbered[0] if numbered else name


def _refuse_unknown(names: Sequence[str], folder: Path) -> None:
    if unknown := sorted(set(names) - set(available(folder))):
        raise ValueError(f"no notebook {', '.join(unknown)}; there are {', '.join(available(folder))}")


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    notebooks = commands.add_parser("notebooks", help="run the notebooks, and make a site of them")
    notebooks.add_argument("names", nargs="*", help="which, such as 02; default: all that belong to the demo")
    add_profile(notebooks)
    add_pairs(notebooks, "-p", name="NAME", text="a parameter of the notebooks, as JSON or text")
    notebooks.set_defaults(run=_notebooks)


def _notebooks(options: argparse.Namespace) -> int:
    from liqe_core.commands.parameters import of_notebooks

    names = [_named(name) for name in options.names]
    names = names or [name for name in available() if not name.startswith("9")]
    _refuse_unknown(names, FOLDER)
    given = {"profile": options.profile} | values(options.p)
    given = of_notebooks([FOLDER / f"{name}.ipynb" for name in names], given)
    out = Path(options.out or given.get("out_dir") or runs_dir(given["profile"]))
    executed = run(names, out, given)
    print()
    for one in executed:
        print(f"{one.name:28} {one.seconds:6.0f} s  {one.error or 'ok'}")
    for one in executed:
        if one.error:
            print(f"\n{one.name} failed: {one.error}\nWhere, is in {one.path}", file=sys.stderr)
    table = out / "02_multitask_training" / "summary.txt"
    if "02_multitask_training" in names and table.exists():
        print(f"\n{table.read_text(encoding='utf-8').rstrip()}")
    if options.names:
        print(f"\nThe executed notebooks are in {out}; a site of all that are there: liqe pages --out {out}")
    elif pages.installed():
        print(f"\nThe site, with a page for each executed notebook: {pages.build(out)}")
    else:
        print(f"\nThe executed notebooks are in {out}; as a site, with the extra `site`: liqe pages")
    return 1 if any(one.error for one in executed) else 0
