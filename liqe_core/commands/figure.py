"""``liqe figure``: a figure or table of the notebooks drawn again, for a paper, a slide or a screen."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from liqe_core.files import runs_dir, write_csv, write_text

if TYPE_CHECKING:
    import pandas as pd

    from liqe_core.commands.figure_list import Shown
    from liqe_core.commands.figure_source import Source


def redraw(
    name: str,
    source: Source,
    out: str | os.PathLike,
    style: str = "paper",
    width: str | None = None,
    dark: bool = False,
) -> list[Path]:
    """Draw a figure or write a table; trains nothing.

    Args:
        name: see `figure_list.SHOWN`.
        out: the folder for ``name.pdf``, ``.svg``, ``.png`` (300 dots an inch) and ``.csv``; of a table only
            that, and ``.tex`` (LaTeX, for the package booktabs), which a figure of a table has too.
        style: ``paper``, ``notebook`` or ``talk``. width: ``column`` or ``page``, of a paper.
        dark: light letters on a dark ground.

    Returns:
        The files.

    Raises:
        ValueError: no such figure; it cannot be drawn from this source, with what can; an impossible look.
        OSError: the folder cannot be written.
    """
    from liqe_core.commands.figure_list import find
    from liqe_core.figures.style import WIDTHS, drawn_as, flat, save

    one, out = find(name), Path(out)
    if width and style != "paper":
        raise ValueError(f"--width is for --style paper; {style} has its own")
    with drawn_as(style, WIDTHS[width] if width else None, dark):
        try:
            read = one.read(source)
        except ValueError as error:
            raise ValueError(f"{name}: {error}{_instead(one, source)}") from None
        _writable(out)
        if one.draw is None:
            paths = [out / f"{name}.csv"]
            write_csv(paths[0], flat(read.table))
        else:
            figure = one.draw(*read.given)
            paths = save(figure, out, name, read.table, ("pdf", "svg", "png"), 300)
    if one.tabular:
        paths.append(out / f"{name}.tex")
        write_text(paths[-1], latex(flat(read.table)))
    return paths


def latex(table: pd.DataFrame) -> str:
    """A table for LaTeX with booktabs: numbers to three digits, nothing where there is none."""
    table = table.convert_dtypes().astype(
        object
    )  # counts that were floats for want of a value are whole again
    told = table.map(lambda value: f"{value:.3f}" if isinstance(value, float) else value)
    return told.mask(table.isna(), "").to_latex(index=False, escape=True)


def _instead(one: Shown, source: Source) -> str:
    """What the folder can give in its place."""
    from liqe_core.commands.figure_list import SHOWN

    if source.folder is None:
        return ""
    of_folder = [s for s in SHOWN.values() if s.needs in ("run", "runs", "notebook") and s.name != one.name]
    can = [other.name for other in of_folder if other.possible(source)]
    return f". {source.folder} can give: {', '.join(can) or 'none'}"


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{out}: cannot be made ({error.strerror}); give another folder with --out") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise OSError(f"{out}: may not be written to; give another folder with --out")


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    figure = commands.add_parser(
        "figure", help="a figure or table of the notebooks again, for a paper or a slide"
    )
    figure.add_argument("names", nargs="*", metavar="NAME", help="which, as --list names them")
    figure.add_argument("--list", action="store_true", help="name them all, with a sentence each")
    text = "the folder of a finished run, or one that sweeps and notebooks wrote to, such as runs/mini"
    figure.add_argument("--run", dest="folder", metavar="FOLDER", help=text)
    figure.add_argument("--out", help="the folder for the files; default: runs/figures")
    text = "default: paper"
    figure.add_argument("--style", choices=("paper", "notebook", "talk"), default="paper", help=text)
    text = "of a paper: column (3.3 inches, default) or page (6.9)"
    figure.add_argument("--width", choices=("column", "page"), help=text)
    figure.add_argument("--dark", action="store_true", help="light letters on a dark ground")
    text = "the folder of the pictures that it shows; default: where the run's data sets lie"
    figure.add_argument("--pictures", metavar="FOLDER", help=text)
    figure.set_defaults(run=_figure)


def _figure(options: argparse.Namespace) -> int:
    if not options.list and not options.names:
        raise ValueError("name a figure, or ask for --list")
    from liqe_core.commands.figure_list import SHOWN, find
    from liqe_core.commands.figure_source import Source

    if options.list:
        for one in SHOWN.values():
            print(f"{one.name:24} {one.notebook}  {one.about}\n{'':28} {one.wants()}")
        return 0
    for name in options.names:
        find(name)  # a slip is told before anything is drawn
    source, out = Source(options.folder, options.pictures), options.out or runs_dir("figures")
    for name in options.names:
        for path in redraw(name, source, out, options.style, options.width, options.dark):
            print(path)
    return 0
