"""``python -m liqe_core``: score pictures, run the notebooks, sweep, get and check the data sets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from liqe_core.data_cli import add_commands as add_data_commands
from liqe_core.sweep_cli import add_command as add_sweep_command
from liqe_core.sweep_cli import json_or_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m liqe_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    score = commands.add_parser("score", help="score pictures with a checkpoint")
    score.add_argument("images", nargs="+", help="picture files, or folders of them")
    score.add_argument("--checkpoint", required=True, help="LIQE.pt, pyiqa's file, or one of our own")
    score.add_argument("--csv", help="write the table here instead of printing it")
    score.add_argument("--geometry", default="", help="paper (default), standalone or pyiqa")
    score.add_argument("--grid", default="", help="quality, for weights that were trained on quality alone")
    score.add_argument("--device", default="cpu")
    score.set_defaults(run=_score)

    notebooks = commands.add_parser("notebooks", help="run the notebooks, and gather them on an HTML page")
    notebooks.add_argument("names", nargs="*", help="which; default: all that belong to the demo")
    notebooks.add_argument("--profile", default="mini", help="smoke, mini, open or paper")
    notebooks.add_argument("--out", help="default: runs/PROFILE")
    notebooks.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter, as JSON or text",
    )
    notebooks.set_defaults(run=_notebooks)

    add_data_commands(commands)
    add_sweep_command(commands)

    train = commands.add_parser("train", help="train as a profile says; also under torchrun")
    train.add_argument("--profile", default="mini", help="smoke, mini, open or paper")
    train.add_argument("--out", help="the run folder; default: one of its own in runs/PROFILE")
    train.add_argument("--restart", action="store_true", help="replace a run that is in the folder")
    train.add_argument(
        "-s",
        nargs=2,
        action="append",
        default=[],
        metavar=("SETTING", "VALUE"),
        help="another value for a setting of the profile, as JSON or text",
    )
    train.set_defaults(run=_train)

    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        # Ours name the thing and say what to do, which a traceback would hide.
        print(f"error: {error}", file=sys.stderr)
        return 1


def _score(options: argparse.Namespace) -> int:
    from liqe_core import LIQE, PromptGrid
    from liqe_core.files import write_csv

    images = [picture for given in options.images for picture in _pictures_in(Path(given))]
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


def _pictures_in(given: Path) -> list[Path]:
    """A file is taken as it is, so that an error can name it; of a folder, what Pillow has a reader for."""
    if not given.is_dir():
        return [given]
    from PIL import Image

    Image.init()
    found = sorted(path for path in given.rglob("*") if path.suffix.lower() in Image.EXTENSION)
    if not found:
        raise ValueError(f"{given}: no picture in this folder")
    return found


def _notebooks(options: argparse.Namespace) -> int:
    from liqe_core import notebooks
    from liqe_core.files import runs_dir

    out = Path(options.out) if options.out else runs_dir(options.profile)
    names = options.names or [name for name in notebooks.available() if not name.startswith("9")]
    executed = notebooks.run(
        names, out, {"profile": options.profile} | {k: json_or_text(v) for k, v in options.p}
    )
    page = notebooks.html_page(executed, out / "index.html")
    print()
    for one in executed:
        print(f"{one.name:28} {one.seconds:6.0f} s  {one.error or 'ok'}")
    for one in executed:
        if one.error:
            print(f"\n{one.name} failed:\n{one.traceback or one.error}", file=sys.stderr)
    table = out / "02_multitask_training" / "summary.txt"
    if "02_multitask_training" in names and table.exists():
        print(f"\n{table.read_text(encoding='utf-8').rstrip()}")
    print(f"\nEvery executed notebook on one page: {page}")
    return 1 if any(one.error for one in executed) else 0


def _train(options: argparse.Namespace) -> int:
    from liqe_core.files import runs_dir
    from liqe_core.prepare import run_folder, sets_for
    from liqe_core.profiles import profile
    from liqe_core.train import fit

    settings = profile(options.profile, **{name: json_or_text(text) for name, text in options.s})
    folder = Path(options.out) if options.out else run_folder(settings, runs_dir(settings.name))
    results = fit(settings, sets_for(settings), folder, restart=options.restart)
    if os.environ.get("RANK", "0") == "0":
        print(f"{results.round(4).to_string(index=False)}\n\nThe run: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
