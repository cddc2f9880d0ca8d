"""Every command and its options; light, since `liqe --help` waits for nothing.

A parser's ``run`` says what carries the command out: a module of `liqe_core.commands`, and a function of the
options in it that returns the exit code.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from liqe_core import __version__

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

#: What scores where no checkpoint is named.
PACKAGED = "liqe-tiny"

_ABOUT = "How good is a photograph, with no original to compare it with? LIQE, reproduced (CVPR 2023)."
_FIRST_STEPS = """\
first steps:
  liqe score holiday/ --checkpoint official --csv scores.csv
                          quality, scene and distortion of every image in a folder
  liqe notebooks          train a small model on built-in data, and make a site of all of it
  liqe data status        which datasets are on this machine, and how to get the others

Each command says more of itself: liqe score --help
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``liqe``."""
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
    return parser


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


def add_settings(parser: argparse.ArgumentParser) -> None:
    """``--set``."""
    text = "another value for a setting of the profile, as JSON or text; may be given several times"
    pair = ("SETTING", "VALUE")
    parser.add_argument("-s", "--set", nargs=2, action="append", default=[], metavar=pair, help=text)


def values(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Settings or parameters from a command line: each value as JSON where it is JSON, else the text."""
    return {name: json_or_text(text) for name, text in pairs}


def json_or_text(text: str) -> object:
    """What a text is as JSON; itself where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _add_score(commands: Commands) -> None:
    score = commands.add_parser(
        "score",
        help="score images, or folders of them",
        description="Quality, scene and distortion of images. "
        "When a table goes to a file, progress is saved next to it: "
        "a run that was stopped or killed continues when the same command is given again. In a "
        r"table, a backslash, a line break or a byte that is not valid UTF-8 in a file name is written as "
        r"\\, \n, \xe9.",
    )
    choice = score.add_argument_group("which images")
    choice.add_argument("images", nargs="*", help="image files, or folders of them")
    choice.add_argument("--from-file", metavar="LIST", help="a file with a path a line; - for standard input")
    text = "take only what matches this pattern, '*.jpg' or 'day 1/*'; may be given several times"
    choice.add_argument("--include", metavar="GLOB", action="append", default=[], help=text)
    text = "leave out what matches this pattern; may be given several times"
    choice.add_argument("--exclude", metavar="GLOB", action="append", default=[], help=text)
    model = score.add_argument_group("by which model")
    _add_model(model)
    model.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto")
    model.add_argument("--batch-size", type=int, default=8, help="images that go through it together (8)")
    text = "bfloat16 rounds the factors of the image tower's products to 8 bits: faster on processors that "
    text += "multiply such numbers, at slightly other scores; refused for liqe-tiny (default: float32)"
    model.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=text)
    text = "score on the workers of this Dask scheduler (tcp://host:8786), which see the same files under "
    text += "the same paths; default: here, on all GPUs where --device is cuda or auto"
    model.add_argument("--scheduler", default="", metavar="ADDRESS", help=text)
    table = score.add_argument_group("the table: printed, where none of the first four is given")
    table.add_argument("--csv", metavar="FILE", help="write it as CSV; - for standard output")
    table.add_argument("--json", metavar="FILE", help="as JSON, an object a line; - likewise")
    table.add_argument("--parquet", metavar="FILE", help="write it as Parquet; needs pyarrow")
    text = "write it as a page that needs no other file: thumbnails from worst to best, sortable"
    table.add_argument("--html", metavar="FILE", help=text)
    text = "the probability of every word as well (not in --html)"
    table.add_argument("--distributions", action="store_true", help=text)
    table.add_argument("--restart", action="store_true", help="begin anew where another run was stopped")
    reading = score.add_argument_group("how images are read; by default as the public code does")
    text = "turn images as their EXIF tag says"
    reading.add_argument("--orientation", choices=("ignore", "apply"), default="ignore", help=text)
    text = "convert colours by the ICC profile"
    reading.add_argument("--icc", choices=("ignore", "srgb"), default="ignore", help=text)
    text = "enlarge each image until its shorter side has N pixels, where people see all at one size, "
    text += "whatever size they have (default, and 0: as the model does; liqe-tiny takes 224 to 768)"
    reading.add_argument("--enlarge-to", type=int, default=0, metavar="N", help=text)
    text = "refuse images with more pixels (89478485); none: no limit"
    reading.add_argument("--max-pixels", default="", metavar="N", help=text)
    text = "score files that are cut short, with grey for what is missing"
    reading.add_argument("--truncated", choices=("refuse", "allow"), default="refuse", help=text)
    score.set_defaults(run="score:run_score")


def _add_model(parser: argparse._ActionsContainer) -> None:
    text = f"{PACKAGED} (default), official, official-koniq, or a file of weights"
    parser.add_argument("--checkpoint", default=PACKAGED, help=text)
    parser.add_argument("--geometry", default="", help="paper (default), standalone or pyiqa")
    parser.add_argument("--grid", default="", help="quality, for weights that were trained on quality alone")


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="write a model as ONNX, for programs without this package")
    export.add_argument("file", help="the file to write: .onnx, or .pt2 for torch.export.load")
    _add_model(export)
    export.set_defaults(run="score:run_export")


def _add_data(subparsers: Commands) -> None:
    data = subparsers.add_parser(
        "data", help="datasets: list, status, fetch, unpack, verify, audit, pack, labels"
    )
    commands = data.add_subparsers(title="commands", dest="data_command", metavar="COMMAND", required=True)

    def command(name: str, names: str, text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text)
        if names:
            text = "dataset names, or paths of manifests" + ("; default: all" if names == "*" else "")
            parser.add_argument("names", nargs=names, metavar="NAME", help=text)
        parser.add_argument("--root", help="the folder of the datasets (default: $LIQE_DATA, or the cache)")
        text = "for labels: a clone of zwx8981/LIQE (default: $LIQE_LABELS, or fetched)"
        parser.add_argument("--mirror", type=_clone, help=text)
        parser.add_argument("--quiet", action="store_true", help="no progress bars")
        parser.set_defaults(run=f"data:run_{name}")
        return parser

    command("list", "", "the datasets that there are manifests for")
    command("status", "*", "which are there, and what to do next")
    fetch = command("fetch", "+", "get datasets: names, or `paper`, or `unseen`")
    fetch.add_argument("--yes", action="store_true", help="do not ask before the transfer begins")
    fetch.add_argument("--direct", action="store_true", help="from the authors' address, not from the hub")
    fetch.add_argument("--from", dest="source", help="an archive or a clone you have, or another repository")
    unpack = command("unpack", "", "unpack an archive that you have")
    unpack.add_argument("name", metavar="NAME")
    unpack.add_argument("archive", metavar="ARCHIVE")
    unpack.add_argument("--password", help="for an encrypted zip")
    verify = command("verify", "*", "open every image and write a report")
    text = "report images with a side under so many pixels, a crop of the model that is to be trained (224)"
    verify.add_argument("--window", type=whole_number, help=text)
    audit = command("audit", "*", "check labels, splits and scores")
    audit.add_argument("--csv", help="write the table here as well")
    pack = command("pack", "+", "decode the images into a store for training")
    pack.add_argument("--out", help="the store's folder (default: in the cache)")
    for parser in (fetch, unpack, pack):
        text = "where images are missing: an error (default), or go on without them"
        parser.add_argument("--missing", choices=("error", "skip"), default="error", help=text)
    for parser in (verify, pack):
        parser.add_argument("--workers", type=whole_number, help="threads (default: one a core)")
    labels = command("labels", "*", "read the labels, fetching them where needed")
    labels.add_argument("--csv", help="write the table here")
    labels.add_argument("--fastfading", choices=("released", "corrected"), default="released")


def _clone(text: str) -> str:
    """The type of ``--mirror``, which is easily taken for a place of images."""
    folder = Path(text).expanduser()
    if folder.name != "IQA_Database" and not (folder / "IQA_Database").is_dir():
        raise argparse.ArgumentTypeError(
            f"{text}: no clone of zwx8981/LIQE (no folder IQA_Database in it), where the labels come from; "
            "images that you have go in with `liqe data fetch NAME --from ARCHIVE`"
        )
    return text


def _add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a model as a profile says; also under torchrun")
    add_profile(train)
    text = "train on these in place of the profile's datasets: manifests of yours (my.yaml), or names"
    train.add_argument("--data", nargs="+", metavar="NAME", help=text)
    train.add_argument("--restart", action="store_true", help="replace a run that is in the folder")
    add_settings(train)
    train.set_defaults(run="train:run_train")
    check = commands.add_parser("check", help="weights as they are, on the paper's sets; trains nothing")
    add_profile(check, default="paper")
    check.add_argument("names", nargs="*", help="datasets; default: the profile's, and the unseen ones")
    check.add_argument("--checkpoint", default="official", help="a file of weights, or a name (official)")
    check.add_argument("--session", type=int, choices=range(1, 11), default=1, metavar="K", help="default: 1")
    check.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    text = "where images are missing or damaged: no result (default), or measure the others"
    check.add_argument("--missing", choices=("error", "skip"), default="error", help=text)
    add_settings(check)
    check.set_defaults(run="train:run_check")


def _add_sweep(commands: Commands) -> None:
    sweep = commands.add_parser(
        "sweep", help="an ablation: sessions x variants x seeds; what is finished is not run again"
    )
    add_profile(sweep)
    sweep.add_argument("--sessions", type=int, nargs="+", default=[1], help="default: 1")
    sweep.add_argument("--variants", nargs="+", help="default: the four of the paper's ablation")
    sweep.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    add_settings(sweep)
    sweep.add_argument("--scheduler", help="address of a Dask scheduler (tcp://host:8786); default: local")
    text = "local workers, of one thread each; default: one a GPU, else one a core"
    sweep.add_argument("--workers", type=whole_number, help=text)
    sweep.add_argument("--dashboard", default=":8787", help="where a local cluster serves its dashboard")
    sweep.set_defaults(run="sweep:run_sweep")


def _add_notebooks(commands: Commands) -> None:
    notebooks = commands.add_parser("notebooks", help="run the notebooks, and make a site of them")
    notebooks.add_argument("names", nargs="*", help="which, such as 02; default: all that belong to the demo")
    add_profile(notebooks)
    text = "a parameter of the notebooks, as JSON or text; may be given several times"
    notebooks.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=text)
    text = "how many run at the same time; default: 1"
    notebooks.add_argument("--at-once", type=whole_number, default=1, metavar="N", help=text)
    notebooks.set_defaults(run="notebooks:run_notebooks")
    pages = commands.add_parser("pages", help="make a site from notebooks that were run")
    add_profile(pages)
    pages.set_defaults(run="notebooks:run_pages")


def _add_figure(commands: Commands) -> None:
    figure = commands.add_parser(
        "figure", help="a figure or table of the notebooks again, for a paper or a slide"
    )
    figure.add_argument("names", nargs="*", metavar="NAME", help="which, as --list names them")
    figure.add_argument("--list", action="store_true", help="name them all, with a sentence each")
    text = "the folder of a finished run, or one that sweeps and notebooks wrote to, such as runs/mini"
    figure.add_argument("--run", dest="folder", metavar="FOLDER", type=Path, help=text)
    figure.add_argument("--out", help="the folder for the files; default: runs/figures")
    text = "default: paper"
    figure.add_argument("--style", choices=("paper", "notebook", "talk"), default="paper", help=text)
    text = "of a paper: column (3.3 inches, default) or page (6.9)"
    figure.add_argument("--width", choices=("column", "page"), help=text)
    figure.add_argument("--dark", action="store_true", help="light letters on a dark ground")
    text = "the folder of the images that it shows; default: where they lay when the figure was saved"
    figure.add_argument("--images", metavar="FOLDER", type=Path, help=text)
    figure.set_defaults(run="figure:run_figure")
