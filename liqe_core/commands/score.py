"""``liqe score``: quality, scene and distortion of pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

#: What scores where no checkpoint is named.
PACKAGED = "liqe-tiny"


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    score = commands.add_parser("score", help="score pictures, or folders of them")
    score.add_argument("images", nargs="+", help="picture files, or folders of them")
    score.add_argument(
        "--checkpoint",
        default=PACKAGED,
        help=f"{PACKAGED} (default), official, official-koniq, or a file of weights",
    )
    score.add_argument("--csv", help="write the table here instead of printing it")
    score.add_argument("--geometry", default="", help="paper (default), standalone or pyiqa")
    score.add_argument("--grid", default="", help="quality, for weights that were trained on quality alone")
    score.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    score.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    from liqe_core import LIQE, PromptGrid
    from liqe_core.files import write_csv

    if options.checkpoint == PACKAGED and not Path(PACKAGED).is_file():  # else that file is taken
        print(f"scored by {PACKAGED}, the small model that comes with this package", file=sys.stderr)
    images = [picture for given in options.images for picture in _pictures(Path(given))]
    model = LIQE.from_checkpoint(
        options.checkpoint,
        geometry=options.geometry or None,
        grid=PromptGrid.variant(options.grid) if options.grid else None,
        device=options.device,
    )
    prediction = model.score(images, on_error="skip", progress=len(images) > 8)
    table = prediction.to_frame()
    if options.csv:
        write_csv(options.csv, table)
        print(f"{len(images) - len(prediction.errors)} of {len(images)} pictures scored: {options.csv}")
    else:
        print(table.drop(columns="error", errors="ignore").to_string(index=False))
    for reason in prediction.errors.values():
        print(reason, file=sys.stderr)
    return 1 if prediction.errors else 0


def _pictures(given: Path) -> list[Path]:
    """A file is taken as it is, so that an error can name it."""
    from liqe_core.images import pictures_in

    return [given / name for name in pictures_in(given)] if given.is_dir() else [given]
