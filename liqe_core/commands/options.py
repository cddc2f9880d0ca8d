"""The commands and their options; this module has no heavy imports, so that `liqe --help` is fast.

The default ``run`` of a parser names the implementation of the command: a module of `liqe_core.commands` and
a function in it that takes the options and returns the exit code.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from liqe_core import __version__

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

#: The default checkpoint for scoring.
PACKAGED = "liqe-tiny"

_ABOUT = "Blind image quality assessment with LIQE (CVPR 2023): score images, train and evaluate models."
_FIRST_STEPS = """\
examples:
  liqe score photo.jpg                          score an image with the built-in model
  liqe score photos/ --checkpoint official --csv scores.csv
                                                score a folder with the authors' model
  liqe data status                              show which datasets are on this machine
  liqe data fetch koniq10k                      download a dataset
  liqe train --profile mini                     train a small model on built-in data
  liqe notebooks                                run the notebooks and build a site from them

Run 'liqe COMMAND --help' for the options of a command.
"""
#: The end of the help of each command.
EXAMPLES = {
    "score": """\
  liqe score holiday/ --csv scores.csv
  liqe score --from-file list.txt --json scores.jsonl --device cuda
  liqe score holiday/ --checkpoint official --html page.html""",
    "data": """\
  liqe data status
  liqe data fetch koniq10k
  liqe data audit my.yaml""",
    "train": """\
  liqe train --profile mini --out run
  liqe train --profile mini --data my.yaml -s epochs 3""",
    "check": """\
  liqe check
  liqe check koniq10k --checkpoint LIQE.pt --missing skip""",
    "sweep": """\
  liqe sweep --profile mini --seeds 1 2 3
  liqe sweep --profile paper --scheduler tcp://host:8786""",
    "notebooks": """\
  liqe notebooks
  liqe notebooks 04 -p sessions '[1, 2]'""",
    "pages": "  liqe pages --profile mini",
    "figure": """\
  liqe figure --list
  liqe figure training_curves --run runs/mini --style talk""",
    "export": """\
  liqe export model.onnx
  liqe export model.pt2 --checkpoint run/best_quality.safetensors""",
}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``liqe``."""
    parser = argparse.ArgumentParser(
        prog="liqe",
        description=_ABOUT,
        epilog=_FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"liqe {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for add in (_add_score, _add_data, _add_train, _add_sweep, _add_notebooks, _add_figure, _add_export):
        add(commands)
    for name, command in commands.choices.items():
        command.epilog = f"examples:\n{EXAMPLES[name]}\n"
        command.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def whole_number(text: str) -> int:
    """Parse a positive integer; a type for options of argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer; give a whole number from 1")
    return number


def add_profile(parser: argparse.ArgumentParser, default: str = "mini") -> None:
    """Add ``--profile`` and ``--out``."""
    parser.add_argument(
        "--profile", default=default, help=f"smoke, mini, open, paper, ... (default: {default})"
    )
    parser.add_argument("--out", help="output folder (default: in runs/PROFILE)")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add ``--set``."""
    text = "override a setting of the profile, as JSON or text; may be given several times"
    pair = ("SETTING", "VALUE")
    parser.add_argument("-s", "--set", nargs=2, action="append", default=[], metavar=pair, help=text)


def values(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Parse settings or parameters from a command line; values are JSON or, if invalid as JSON, text."""
    return {name: json_or_text(text) for name, text in pairs}


def json_or_text(text: str) -> object:
    """Parse a text as JSON; return the text itself if it is not valid JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _add_score(commands: Commands) -> None:
    score = commands.add_parser(
        "score",
        help="score images or folders of images",
        description="Score images: quality, scene and distortion. If a table is written to a file,\n"
        "progress is saved next to it, and the same command resumes an interrupted run. In a\n"
        "table, a backslash, a line break or a byte that is not valid UTF-8 in a file name is\n"
        r"written as \\, \n, \xe9.",
    )
    choice = score.add_argument_group("images")
    choice.add_argument("images", nargs="*", help="image files or folders")
    choice.add_argument("--from-file", metavar="LIST", help="file with a path per line; - for stdin")
    text = "only score files that match this pattern, '*.jpg' or 'day 1/*'; may be given several times"
    choice.add_argument("--include", metavar="GLOB", action="append", default=[], help=text)
    text = "skip files that match this pattern; may be given several times"
    choice.add_argument("--exclude", metavar="GLOB", action="append", default=[], help=text)
    model = score.add_argument_group("model")
    _add_model(model)
    model.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto")
    model.add_argument("--batch-size", type=int, default=8, help="images per batch (default: 8)")
    text = "bfloat16 rounds the factors of matrix products in the image tower to 8 bits: faster on hardware "
    text += "with bfloat16 support, with slightly different scores; not for liqe-tiny (default: float32)"
    model.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=text)
    text = "score on the workers of this Dask scheduler (tcp://host:8786); workers need the same files under "
    text += "the same paths (default: this machine; all its GPUs if --device is cuda or auto)"
    model.add_argument("--scheduler", default="", metavar="ADDRESS", help=text)
    table = score.add_argument_group("table (printed if none of the first four options is given)")
    table.add_argument("--csv", metavar="FILE", help="write the table as CSV; - for stdout")
    table.add_argument("--json", metavar="FILE", help="write it as JSON, one object per line; - for stdout")
    table.add_argument("--parquet", metavar="FILE", help="write it as Parquet; requires pyarrow")
    text = "write it as a self-contained HTML page with thumbnails, sortable, worst image first"
    table.add_argument("--html", metavar="FILE", help=text)
    text = "include the probability of every word (not in --html)"
    table.add_argument("--distributions", action="store_true", help=text)
    table.add_argument("--restart", action="store_true", help="discard the progress of an interrupted run")
    reading = score.add_argument_group("reading images (the defaults are those of the public code)")
    text = "rotate images according to their EXIF tag (default: ignore)"
    reading.add_argument("--orientation", choices=("ignore", "apply"), default="ignore", help=text)
    text = "convert colors according to the ICC profile (default: ignore)"
    reading.add_argument("--icc", choices=("ignore", "srgb"), default="ignore", help=text)
    text = "enlarge images to N pixels on the shorter side, for images that are all displayed at one size "
    text += "(default: 0, the setting of the model; liqe-tiny accepts 288 to 768)"
    reading.add_argument("--enlarge-to", type=int, default=0, metavar="N", help=text)
    text = "reject images with more pixels (default: 89478485); none: no limit"
    reading.add_argument("--max-pixels", default="", metavar="N", help=text)
    text = "allow: score truncated files, with grey for the missing part (default: refuse)"
    reading.add_argument("--truncated", choices=("refuse", "allow"), default="refuse", help=text)
    score.set_defaults(run="score:run_score")


def _add_model(parser: argparse._ActionsContainer) -> None:
    text = f"{PACKAGED} (default), official, official-koniq, or a checkpoint file"
    parser.add_argument("--checkpoint", default=PACKAGED, help=text)
    parser.add_argument("--geometry", default="", help="crop geometry: paper (default), standalone or pyiqa")
    parser.add_argument("--grid", default="", help="quality: for weights trained with quality prompts only")


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="export a model to ONNX or torch.export")
    export.add_argument("file", help="output file: .onnx, or .pt2 for torch.export.load")
    _add_model(export)
    export.set_defaults(run="score:run_export")


def _add_data(subparsers: Commands) -> None:
    data = subparsers.add_parser("data", help="list, download, check and pack datasets")
    commands = data.add_subparsers(title="commands", dest="data_command", metavar="COMMAND", required=True)

    def command(name: str, names: str, text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text)
        if names:
            text = "dataset names or paths of manifests" + (" (default: all)" if names == "*" else "")
            parser.add_argument("names", nargs=names, metavar="NAME", help=text)
        parser.add_argument("--root", help="folder of all datasets (default: $LIQE_DATA, or in the cache)")
        text = "clone of zwx8981/LIQE with the label files (default: $LIQE_LABELS, or download)"
        parser.add_argument("--mirror", type=_clone, help=text)
        parser.add_argument("--quiet", action="store_true", help="hide progress bars")
        parser.set_defaults(run=f"data:run_{name}")
        return parser

    command("list", "", "list all datasets that have a manifest")
    command("status", "*", "show which datasets are present and the next step")
    fetch = command("fetch", "+", "download datasets by name, or the groups 'paper' and 'unseen'")
    fetch.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    fetch.add_argument("--direct", action="store_true", help="download from the authors, not from the hub")
    fetch.add_argument("--from", dest="source", help="use a local archive or clone, or another repository")
    unpack = command("unpack", "", "unpack a local archive")
    unpack.add_argument("name", metavar="NAME")
    unpack.add_argument("archive", metavar="ARCHIVE")
    unpack.add_argument("--password", help="password of an encrypted zip archive")
    verify = command("verify", "*", "open every image and write a report")
    text = "report images with a side under this many pixels, the crop size of the model (default: 224)"
    verify.add_argument("--window", type=whole_number, help=text)
    audit = command("audit", "*", "check labels, splits and scores")
    audit.add_argument("--csv", help="also write the table to this file")
    pack = command("pack", "+", "decode images into a store for training")
    pack.add_argument("--out", help="folder of the store (default: in the cache)")
    for parser in (fetch, unpack, pack):
        text = "error (default) or skip: what to do if images are missing"
        parser.add_argument("--missing", choices=("error", "skip"), default="error", help=text)
    for parser in (verify, pack):
        parser.add_argument("--workers", type=whole_number, help="number of threads (default: one per core)")
    labels = command("labels", "*", "read labels, downloading label files if needed")
    labels.add_argument("--csv", help="also write the table to this file")
    labels.add_argument("--fastfading", choices=("released", "corrected"), default="released")


def _clone(text: str) -> str:
    """Check ``--mirror``, which users may mistake for a folder of images."""
    folder = Path(text).expanduser()
    if folder.name != "IQA_Database" and not (folder / "IQA_Database").is_dir():
        raise argparse.ArgumentTypeError(
            f"{text} is not a clone of zwx8981/LIQE with label files (it has no folder IQA_Database); to use "
            "a local archive of images, run `liqe data fetch NAME --from ARCHIVE`"
        )
    return text


def _add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a model with a profile; also under torchrun")
    add_profile(train)
    text = "train on these datasets instead of the profile's: paths of manifests (my.yaml) or names"
    train.add_argument("--data", nargs="+", metavar="NAME", help=text)
    train.add_argument("--restart", action="store_true", help="replace an existing run in the folder")
    add_settings(train)
    train.set_defaults(run="train:run_train")
    check = commands.add_parser("check", help="evaluate a checkpoint on the paper's datasets")
    add_profile(check, default="paper")
    check.add_argument("names", nargs="*", help="datasets (default: the profile's and the unseen ones)")
    check.add_argument("--checkpoint", default="official", help="checkpoint name or file (default: official)")
    check.add_argument("--session", type=int, choices=range(1, 11), default=1, metavar="K", help="default: 1")
    check.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    text = "if images are missing or corrupt: report no result (error, default) or evaluate the rest (skip)"
    check.add_argument("--missing", choices=("error", "skip"), default="error", help=text)
    add_settings(check)
    check.set_defaults(run="train:run_check")


def _add_sweep(commands: Commands) -> None:
    sweep = commands.add_parser("sweep", help="run an ablation: sessions x variants x seeds")
    add_profile(sweep)
    sweep.add_argument("--sessions", type=int, nargs="+", default=[1], help="sessions, 1 to 10 (default: 1)")
    sweep.add_argument("--variants", nargs="+", help="prompt variants (default: the paper's four)")
    sweep.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds (default: 1 2 3)")
    add_settings(sweep)
    sweep.add_argument("--scheduler", help="address of a Dask scheduler (tcp://host:8786); default: local")
    text = "local workers with one thread each (default: one per GPU; without GPUs, one per core)"
    sweep.add_argument("--workers", type=whole_number, help=text)
    sweep.add_argument("--dashboard", default=":8787", help="address of a local cluster's dashboard")
    sweep.set_defaults(run="sweep:run_sweep")


def _add_notebooks(commands: Commands) -> None:
    notebooks = commands.add_parser("notebooks", help="run the notebooks and build a site from them")
    notebooks.add_argument("names", nargs="*", help="notebooks, such as 02 (default: all of the demo)")
    add_profile(notebooks)
    text = "set a parameter of the notebooks, as JSON or text; may be given several times"
    notebooks.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=text)
    text = "number of notebooks to run in parallel (default: 1)"
    notebooks.add_argument("--at-once", type=whole_number, default=1, metavar="N", help=text)
    notebooks.set_defaults(run="notebooks:run_notebooks")
    pages = commands.add_parser("pages", help="build a site from executed notebooks")
    add_profile(pages)
    pages.set_defaults(run="notebooks:run_pages")


def _add_figure(commands: Commands) -> None:
    figure = commands.add_parser("figure", help="redraw figures and tables of the notebooks")
    figure.add_argument("names", nargs="*", metavar="NAME", help="figures or tables, see --list")
    figure.add_argument("--list", action="store_true", help="list all figures and tables")
    text = "folder of a finished run, or of the runs of a sweep or notebook, such as runs/mini"
    figure.add_argument("--run", dest="folder", metavar="FOLDER", type=Path, help=text)
    figure.add_argument("--out", help="output folder (default: runs/figures)")
    text = "style of the figures (default: paper)"
    figure.add_argument("--style", choices=("paper", "notebook", "talk"), default="paper", help=text)
    text = "width in style paper: column (3.3 inches, default) or page (6.9 inches)"
    figure.add_argument("--width", choices=("column", "page"), help=text)
    figure.add_argument("--dark", action="store_true", help="light text on a dark background")
    text = "folder of the images in the figure (default: their folder when the figure was saved)"
    figure.add_argument("--images", metavar="FOLDER", type=Path, help=text)
    figure.set_defaults(run="figure:run_figure")
