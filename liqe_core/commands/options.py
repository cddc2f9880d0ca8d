"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable


def add_profile(parser: argparse.ArgumentParser) -> None:
    """``--profile`` and ``--out``."""
    parser.add_argument("--profile", default="mini", help="smoke, mini (default), open, paper, ...")
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


def device(name: str) -> str:
    """The device that a word stands for: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto``: the fastest here.

    Raises:
        ValueError: another word, or no such device here.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"--device {name}: no such device; give cpu, cuda, cuda:1 or auto")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(has_mps)}[kind]
    if int(number or 0) >= count:
        there = f"there are {count} of its kind here" if count else "there is none of its kind here"
        raise ValueError(f"--device {name}: {there}; give cpu, or auto for the fastest there is")
    return name
