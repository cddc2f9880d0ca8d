"""``liqe``, or ``python -m liqe_core``: the parser, and what to do with an error.

A command's module is light until the command runs: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from liqe_core import __version__
from liqe_core.commands import data, notebooks, score, sweep, train

_ABOUT = "How good is a photograph, with no original to compare it with? LIQE, reproduced (CVPR 2023)."
_FIRST_STEPS = """\
first steps:
  liqe score holiday/ --checkpoint official --csv scores.csv
                          quality, scene and distortion of every picture in a folder
  liqe notebooks          train a small model on built-in data, and show all of it on one HTML page
  liqe data status        which data sets are on this machine, and how to get the others

Each command says more of itself: liqe score --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Args:
        arguments: default: those that the process was started with.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        # Ours name the thing and say what to do, which a traceback would hide.
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="liqe",
        description=_ABOUT,
        epilog=_FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"liqe {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in (score, data, train, sweep, notebooks):
        command.add_command(commands)
    return parser
