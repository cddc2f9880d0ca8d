"""``liqe score``: quality, scene and distortion of pictures."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from liqe_core import LIQE
    from liqe_core.commands.score_run import Scores
    from liqe_core.commands.stopping import Stop

#: What scores where no checkpoint is named.
PACKAGED = "liqe-tiny"


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    score = commands.add_parser(
        "score",
        help="score pictures, or folders of them",
        description="Quality, scene and distortion of pictures. A run with a table in a file that is "
        "stopped, or killed, goes on where it was when the same command is given again. In a table, a "
        r"backslash, a line break or a byte that is no UTF-8 of a file name stands as \\, \n, \xe9.",
    )
    which = score.add_argument_group("which pictures")
    which.add_argument("images", nargs="*", help="picture files, or folders of them")
    which.add_argument("--from-file", metavar="LIST", help="a file with a path a line; - for standard input")
    text = "take only what matches this pattern, '*.jpg' or 'day 1/*'; may be given several times"
    which.add_argument("--include", metavar="GLOB", action="append", default=[], help=text)
    text = "leave out what matches this pattern; may be given several times"
    which.add_argument("--exclude", metavar="GLOB", action="append", default=[], help=text)
    model = score.add_argument_group("by which model")
    text = f"{PACKAGED} (default), official, official-koniq, or a file of weights"
    model.add_argument("--checkpoint", default=PACKAGED, help=text)
    model.add_argument("--geometry", default="", help="paper (default), standalone or pyiqa")
    model.add_argument("--grid", default="", help="quality, for weights that were trained on quality alone")
    model.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto")
    model.add_argument("--batch-size", type=int, default=8, help="pictures that go through it together (8)")
    text = "bfloat16 rounds the factors of the image tower's products to 8 bits: faster on processors that "
    text += "multiply such numbers, at slightly other scores (default: float32)"
    model.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=text)
    table = score.add_argument_group("the table: printed, where none of the first four is given")
    table.add_argument("--csv", metavar="FILE", help="write it as CSV")
    table.add_argument("--json", metavar="FILE", help="write it as JSON, an object a line")
    table.add_argument("--parquet", metavar="FILE", help="write it as Parquet; needs pyarrow")
    text = "write it as a page that needs no other file: thumbnails from worst to best, sortable"
    table.add_argument("--html", metavar="FILE", help=text)
    text = "the probability of every word as well (not in --html)"
    table.add_argument("--distributions", action="store_true", help=text)
    table.add_argument("--restart", action="store_true", help="begin anew where another run was stopped")
    read = score.add_argument_group("how pictures are read; by default as the public code does")
    text = "turn pictures as their EXIF tag says"
    read.add_argument("--orientation", choices=("ignore", "apply"), default="ignore", help=text)
    text = "convert colours by the ICC profile"
    read.add_argument("--icc", choices=("ignore", "srgb"), default="ignore", help=text)
    text = "refuse pictures with more pixels (89478485); none: no limit"
    read.add_argument("--max-pixels", default="", metavar="N", help=text)
    text = "score files that are cut short, with grey for what is missing"
    read.add_argument("--truncated", choices=("refuse", "allow"), default="refuse", help=text)
    score.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    from liqe_core.commands.stopping import Stopped, stoppable

    run = _Run(options)
    try:
        with stoppable() as stop:
            return run(stop)
    except Stopped as stopped:
        print(f"\nstopped by {stopped}: {run.left()}", file=sys.stderr)
        return stopped.code


class _Run:
    """One run of the command, and what is there of it at any moment."""

    def __init__(self, options: argparse.Namespace):
        from liqe_core.commands.score_table import FORMS

        self.options = options
        self.outputs = [(form, Path(getattr(options, form))) for form in FORMS if getattr(options, form)]
        self.pictures: list[str] = []
        self.model: LIQE | None = None
        self.scores: Scores | None = None
        #: What is noted as it goes; beside the first table, and gone when that is there.
        self.journal = Path(f"{self.outputs[0][1]}.journal") if self.outputs else None

    def __call__(self, stop: Stop) -> int:
        from liqe_core.commands.pictures import choose, read_list
        from liqe_core.commands.score_table import check_place
        from liqe_core.files import escaped, only_one

        options = self.options
        given = [*options.images, *(read_list(options.from_file) if options.from_file else ())]
        if not given:
            raise ValueError("no pictures given: name files or folders, or a list of them with --from-file")
        read = _reader(options)
        chosen = choose(given, options.include, options.exclude)
        self.pictures = chosen.pictures
        for line in chosen.told():
            print(escaped(line), file=sys.stderr)
        read_files = [options.checkpoint, *self.pictures]
        for form, path in self.outputs:
            check_place(form, path, read_files)
        if len({path.resolve() for _, path in self.outputs}) < len(self.outputs):
            raise ValueError("two tables of the same name: give each form its own")
        stop.check()
        if self.journal is None:
            self._score(read, stop, None)
        else:
            with only_one(self.journal.resolve(), doing="scoring into"):
                self._score(read, stop, self.journal)
        return self._end()

    def _score(self, read: Callable[[str], Image.Image], stop: Stop, kept: Path | None) -> None:
        from liqe_core.commands.score_run import Scores, score_all, take_up
        from liqe_core.commands.score_table import clear_parts, write
        from liqe_core.data.journal import Journal

        if kept:
            clear_parts(kept)
            if self.options.restart:
                kept.unlink(missing_ok=True)
        self.model = _model(self.options)
        journal = Journal(kept or os.devnull, "")
        about = _about(self.options, self.model) if kept else None
        self.scores = Scores() if about is None else take_up(journal, about)
        if self.scores.entries:
            print(f"{self._counted()} were scored before, in {kept}: going on from there", file=sys.stderr)
        try:
            score_all(
                self.model,
                self.pictures,
                read,
                self.options.batch_size,
                self.scores,
                journal,
                about,
                stop.check,
                progress=len(self.pictures) > 8,
                precision=self.options.precision,
            )
            for form, path in self.outputs:
                clear_parts(path)
                write(form, path, self._table(), read)
        except OSError as error:  # the disk is full, say
            raise OSError(f"{error}; {self.left()}") from error
        if kept:
            kept.unlink()

    def _end(self) -> int:
        from liqe_core.files import escaped

        assert self.scores is not None
        errors = self.scores.errors
        if self.outputs:
            print(f"{self._counted()} scored: {', '.join(escaped(str(path)) for _, path in self.outputs)}")
        else:
            self._print()
        for reason in errors.values():
            print(escaped(reason), file=sys.stderr)
        return 1 if errors else 0

    def left(self) -> str:
        """What there is when a run ends early, and how to go on. Without a file, prints the table so far."""
        if self.scores is None or self.model is None:
            if self.journal is not None and self.journal.exists():
                return f"what was scored before is in {self.journal}; give the same command again to go on"
            return "nothing was scored yet"
        if self.journal is not None:
            kept = f"{self._counted()} are scored and kept in {self.journal}"
            return f"{kept}; give the same command again to go on"
        self._print()
        return (
            f"{self._counted()} are scored; with a file for the table (--csv FILE), the same command given "
            "again goes on where it was stopped"
        )

    def _counted(self) -> str:
        assert self.scores is not None
        done = sum(picture in self.scores.entries for picture in self.pictures)
        return f"{done} of {len(self.pictures)} pictures"

    def _table(self) -> Any:
        from liqe_core.files import escaped

        assert self.scores is not None and self.model is not None
        return self.scores.table(self.pictures, self.model, escaped, self.options.distributions)

    def _print(self) -> None:
        print(self._table().drop(columns="error", errors="ignore").to_string(index=False), flush=True)


def _reader(options: argparse.Namespace) -> Callable[[str], Image.Image]:
    from liqe_core.images import MAX_PIXELS, read_picture

    words = {"": MAX_PIXELS, "none": None}
    try:
        limit = words[options.max_pixels] if options.max_pixels in words else int(options.max_pixels)
    except ValueError:
        limit = 0
    if limit is not None and limit < 1:
        raise ValueError(f"--max-pixels {options.max_pixels}: give a number from 1, or none")
    return functools.partial(
        read_picture,
        max_pixels=limit,
        truncated={"refuse": "refuse", "allow": "accept"}[options.truncated],
        orientation=options.orientation,
        icc=options.icc,
    )


def _model(options: argparse.Namespace) -> LIQE:
    from liqe_core import LIQE, PromptGrid
    from liqe_core.crops import CropGeometry

    if options.batch_size < 1:
        raise ValueError(f"--batch-size {options.batch_size}: give a number from 1")
    if options.geometry:
        CropGeometry.named(options.geometry)  # refused before the weights are read
    grid = PromptGrid.variant(options.grid) if options.grid else None
    if options.checkpoint == PACKAGED and not Path(PACKAGED).is_file():  # else that file is taken
        print(f"scored by {PACKAGED}, the small model that comes with this package", file=sys.stderr)
    return LIQE.from_checkpoint(
        options.checkpoint,
        geometry=options.geometry or None,
        grid=grid,
        device=_device(options.device),
    )


def _about(options: argparse.Namespace, model: LIQE) -> dict[str, Any]:
    """What scores depend on beside the pictures, by the words that a refusal tells it with."""
    import PIL
    import torch

    from liqe_core import __version__
    from liqe_core.checkpoints import located
    from liqe_core.files import file_sha256

    return {
        "checkpoint": file_sha256(located(options.checkpoint)),
        "geometry": dataclasses.asdict(model.geometry),
        "grid": model.grid.to_dict(),
        "--device": model.device.type,
        "--batch-size": options.batch_size,
        "--precision": options.precision,
        "--orientation": options.orientation,
        "--icc": options.icc,
        "--max-pixels": options.max_pixels,
        "--truncated": options.truncated,
        "version of liqe_core, torch or Pillow": [__version__, torch.__version__, PIL.__version__],
    }


def _device(name: str) -> str:
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
