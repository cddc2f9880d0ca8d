"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable


def add_profile(parser: argparse.ArgumentParser, default: str = "mini") -> None:
    """``--profile`` and ``--out``."""
    parser.add_argument(
        "--profile", default=default, help=f"smoke, mini, open, paper ...; default: {default}"
    )
    parser.add_argument("--out", help="the folder for what is made; default: in runs/PROFILE")


def add_pairs(parser: argparse.ArgumentParser, *flags: str, name: str, text: str) -> None:
    """An option that may be given several times, each time with a name and a value."""
    parser.add_argument(*flags, nargs=2, action="append", default=[], metavar=(name, "VALUE"), help=text)


def values(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """What was given by `add_pairs`: each value as JSON where it is JSON, else the text itself."""
    return {name: _json_or_text(text) for name, text in pairs}


def count(text: str) -> int:
    """The type of an option that is a number of things, such as threads."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1, or leave it out")


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
