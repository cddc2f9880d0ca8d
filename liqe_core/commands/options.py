"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable


def whole_number(text: str) -> int:
    """A number from 1, as the type of an option of argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1")
    return number


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


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
