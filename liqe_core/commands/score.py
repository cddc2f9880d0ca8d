"""``liqe score``: quality, scene and distortion of images."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

    from liqe_core import LIQE
    from liqe_core.commands.score_engine import Shard
    from liqe_core.intake.stopping import Stop

#: What scores where no checkpoint is named.
PACKAGED = "liqe-tiny"


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    score = commands.add_parser(
        "score",
        help="score images, or folders of them",
        description="Quality, scene and distortion of images; scenes by liqe-tiny are not reliable. "
        "When a table goes to a file, progress is saved "
        "next to it: a run that was stopped or killed continues when the same command is given again. In a "
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
    text = f"{PACKAGED} (default; its scenes are not reliable in this version), official, official-koniq, "
    text += "or a file of weights"
    model.add_argument("--checkpoint", default=PACKAGED, help=text)
    model.add_argument("--geometry", default="", help="paper (default), standalone or pyiqa")
    model.add_argument("--grid", default="", help="quality, for weights that were trained on quality alone")
    model.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto")
    model.add_argument("--batch-size", type=int, default=8, help="images that go through it together (8)")
    text = "bfloat16 rounds the factors of the image tower's products to 8 bits: faster on processors that "
    text += "multiply such numbers, at slightly other scores (default: float32)"
    model.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=text)
    text = (
        "score on the workers of this Dask scheduler (tcp://host:8786), which see the same files under the "
    )
    text += "same paths; default: here, on all GPUs where --device is cuda or auto"
    model.add_argument("--scheduler", default="", metavar="ADDRESS", help=text)
    table = score.add_argument_group("the table: printed, where none of the first four is given")
    table.add_argument("--csv", metavar="FILE", help="write it as CSV")
    table.add_argument("--json", metavar="FILE", help="write it as JSON, an object a line")
    table.add_argument("--parquet", metavar="FILE", help="write it as Parquet; needs pyarrow")
    text = "write it as a page that needs no other file: thumbnails from worst to best, sortable"
    table.add_argument("--html", metavar="FILE", help=text)
    text = "the probability of every word as well (not in --html)"
    table.add_argument("--distributions", action="store_true", help=text)
    table.add_argument("--restart", action="store_true", help="begin anew where another run was stopped")
    reading_options = score.add_argument_group("how images are read; by default as the public code does")
    text = "turn images as their EXIF tag says"
    reading_options.add_argument("--orientation", choices=("ignore", "apply"), default="ignore", help=text)
    text = "convert colours by the ICC profile"
    reading_options.add_argument("--icc", choices=("ignore", "srgb"), default="ignore", help=text)
    text = "enlarge each image until its shorter side has N pixels, where people see all at one size, "
    text += "whatever size they have (default, and 0: as the model does; liqe-tiny takes 224 to 768)"
    reading_options.add_argument("--enlarge-to", type=int, default=0, metavar="N", help=text)
    text = "refuse images with more pixels (89478485); none: no limit"
    reading_options.add_argument("--max-pixels", default="", metavar="N", help=text)
    text = "score files that are cut short, with grey for what is missing"
    reading_options.add_argument("--truncated", choices=("refuse", "allow"), default="refuse", help=text)
    score.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    from liqe_core.intake.stopping import StopRequested, stoppable

    run = _Run(options)
    try:
        with stoppable() as stop:
            return run(stop)
    except StopRequested as stopped:
        print(f"\n{stopped}: {run.progress()}", file=sys.stderr)
        return stopped.code


class _Run:
    """One run of the command, and what it has scored at any moment."""

    def __init__(self, options: argparse.Namespace):
        from liqe_core.commands.score_engine import Settings
        from liqe_core.commands.score_files import FORMS

        self.options = options
        self.settings = Settings.from_options(options)
        self.outputs: list[tuple[str, Path]] = []
        for form in FORMS:
            if (path := getattr(options, form)) is None:
                continue
            if path in ("", "-"):
                raise ValueError(
                    f"--{form} {path!r}: give the name of a file; what is printed needs no option"
                )
            # Where a link leads, so that it stays one.
            self.outputs.append((form, Path(os.path.realpath(path) if os.path.islink(path) else path)))
        #: Where shards are kept, beside the first table, until that is written; None: in memory.
        self.folder = Path(f"{self.outputs[0][1]}.shards") if self.outputs else None
        self.images: list[str] = []
        self.shards: list[Shard] = []
        self.scored = 0
        self.model: LIQE | None = None

    def __call__(self, stop: Stop) -> int:
        self._choose_images()
        self._check_places()
        stop.check()
        if self.folder is None:
            return self._run(stop, None)
        from liqe_core.commands.score_engine import check_folder
        from liqe_core.commands.score_files import clear_parts
        from liqe_core.files import only_one

        with only_one(self.folder.resolve(), doing="scoring into"):
            check_folder(self.folder)
            for _, path in self.outputs:
                clear_parts(path)
            if self.options.restart:
                shutil.rmtree(self.folder, ignore_errors=True)
            with _workers(self.options, len(self.images)) as client:
                return self._run(stop, client)

    def _choose_images(self) -> None:
        from liqe_core.commands.score_files import choose, read_list
        from liqe_core.files import escaped

        options = self.options
        paths = [*options.images, *(read_list(options.from_file) if options.from_file else ())]
        if not paths:
            raise ValueError("no images given: name files or folders, or a list of them with --from-file")
        self.read = self.settings.reader()
        chosen = choose(paths, options.include, options.exclude)
        self.images = chosen.images
        for line in chosen.summary():
            print(escaped(line), file=sys.stderr)

    def _check_places(self) -> None:
        """Refuse a table that cannot be written, before hours are spent on it."""
        from liqe_core.commands.score_files import check_place

        options = self.options
        read_files = [options.checkpoint, options.from_file or "", *self.images]
        for form, path in self.outputs:
            check_place(form, path, read_files)
            if self.folder and path.resolve() == self.folder.resolve():
                raise ValueError(f"--{form} {path}: progress is saved under this name; give another")
        if len({path.resolve() for _, path in self.outputs}) < len(self.outputs):
            raise ValueError("two tables of the same name: give each form its own")
        if options.scheduler and not self.outputs:
            raise ValueError("--scheduler needs a file for the table: give --csv FILE, or another form")

    def _run(self, stop: Stop, client: Client | None) -> int:
        from liqe_core.commands.score_files import write
        from liqe_core.files import is_disk_full

        self._plan(client)
        try:
            self._score(stop, client)
            table, unseen = self._table()
            for form, path in self.outputs:
                write(form, path, table, self.read)
        except OSError as error:
            full = (
                f"make room in {self.folder.resolve().parent}; "
                if self.folder and is_disk_full(error)
                else ""
            )
            raise OSError(f"{error}; {full}{self.progress()}") from error
        if unseen:
            print(
                f"{unseen} images are here, and workers could not open them: when they can, give the same "
                "command again; only those shards are scored again",
                file=sys.stderr,
            )
        elif self.folder:
            shutil.rmtree(self.folder)
        return self._report(table)

    def _plan(self, client: Client | None) -> None:
        """Load the model, and take up the run that is in the folder or begin one."""
        from liqe_core.commands import score_engine as engine

        settings = self.settings
        if client:
            name = engine.device_of_workers(client, settings.device)
            checkpoint = Path(settings.checkpoint)
            if checkpoint.is_file():  # workers may have been started in another folder
                settings = dataclasses.replace(settings, checkpoint=str(checkpoint.absolute()))
        else:
            name = engine.device(settings.device)
        settings = dataclasses.replace(settings, device=name)
        if self.options.checkpoint == PACKAGED and not Path(PACKAGED).is_file():  # else that file is taken
            notice = (
                "the small model that comes with this package; its scenes are not reliable in this version"
            )
            print(f"scored by {PACKAGED}, {notice}", file=sys.stderr)
        # For workers it only says which words there are; they have it on their devices.
        self.model = (dataclasses.replace(settings, device="cpu") if client else settings).model()
        size = settings.batch_size
        if self.folder:
            wished = engine.SHARD_ON_WORKER if client else engine.SHARD_HERE
            size = engine.begin(self.folder, settings.about(self.model), wished)
        root, folder = (
            (str(Path.cwd()), self.folder and self.folder.absolute()) if client else ("", self.folder)
        )
        self.shards = engine.plan(self.images, settings, size, folder, root)

    def _score(self, stop: Stop, client: Client | None) -> None:
        from liqe_core.commands import score_engine as engine
        from liqe_core.intake.progress import tqdm

        assert self.model
        pending = []
        total = sum(len(shard.images) for shard in self.shards)
        with tqdm(total=total, disable=not client and total <= 8, unit="image") as bar:

            def note(shard: Shard, scored: int) -> None:
                self.scored += scored
                bar.update(len(shard.images))
                stop.check()

            for shard in self.shards:
                if (scored := shard.scored()) is None:
                    pending.append(shard)
                else:
                    note(shard, scored)
            if len(pending) < len(self.shards):
                print(f"{self._count()} were scored before, in {self.folder}: continuing", file=sys.stderr)
            if client:
                if not client.nthreads():
                    command = f"dask worker --nthreads 1 {self.options.scheduler}"
                    print(f"no worker yet: waiting for one; start it with `{command}`", file=sys.stderr)
                for shard, scored in engine.score_on_workers(client, pending):
                    note(shard, scored)
            else:
                with contextlib.closing(engine.score_shards(self.model, pending)) as results:
                    for shard, rows in results:
                        shard.keep(rows)
                        note(shard, engine.count_scored(rows))

    def _table(self) -> tuple[pd.DataFrame, int]:
        from liqe_core.commands.score_engine import table

        assert self.model
        return table(self.shards, self.images, self.model.grid, self.options.distributions)

    def _report(self, table: pd.DataFrame) -> int:
        """Say what became of the images; returns the exit code."""
        from liqe_core.files import escaped

        errors = dict.fromkeys(table["error"].dropna()) if "error" in table else {}
        if self.outputs:
            scored = f"{table['quality'].notna().sum()} of {len(table)} images"
            print(f"{scored} scored: {', '.join(escaped(str(path)) for _, path in self.outputs)}")
        else:
            _print(table)
        for error in errors:
            print(error, file=sys.stderr)
        return 1 if errors else 0

    def progress(self) -> str:
        """What is scored when a run ends early, and how to go on. Without a file, prints the table so far."""
        if not self.shards:
            if self.folder and self.folder.exists():
                return f"what was scored before is in {self.folder}; give the same command again to go on"
            return "nothing was scored yet"
        if self.folder:
            return (
                f"{self._count()} are scored and kept in {self.folder}; give the same command again to go on"
            )
        _print(self._table()[0])
        return (
            f"{self._count()} are scored; with a file for the table (--csv FILE), the same command given "
            "again goes on where it was stopped"
        )

    def _count(self) -> str:
        return f"{self.scored} of {len(self.images)} images"


def _print(table: pd.DataFrame) -> None:
    print(table.drop(columns="error", errors="ignore").to_string(index=False), flush=True)


@contextlib.contextmanager
def _workers(options: argparse.Namespace, images: int) -> Iterator[Client | None]:
    """Those of the scheduler that was named, or one for each of several GPUs; None: this process scores."""
    from liqe_core.commands.score_engine import SHARD_ON_WORKER
    from liqe_core.commands.sweep import dask_client

    gpus = 0
    if options.device in ("auto", "cuda") and images > SHARD_ON_WORKER and not options.scheduler:
        import torch

        gpus = torch.cuda.device_count()
        if gpus > 1 and importlib.util.find_spec("distributed") is None:
            print(f"one of {gpus} GPUs is used; to use all: pip install distributed", file=sys.stderr)
            gpus = 1
    if options.scheduler or gpus > 1:
        with dask_client(options.scheduler) as client:
            yield client
    else:
        yield None
