"""``liqe score``: quality, scene and distortion of pictures."""

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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

    from liqe_core import LIQE
    from liqe_core.commands.score_run import Scores
    from liqe_core.commands.score_settings import Settings
    from liqe_core.commands.score_shards import ShardedScores
    from liqe_core.intake.stopping import Stop

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
    text = (
        "score on the workers of this Dask scheduler (tcp://host:8786), which see the same files under the "
    )
    text += "same paths; default: here, on every GPU there is where --device is cuda or auto"
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
    read = score.add_argument_group("how pictures are read; by default as the public code does")
    text = "turn pictures as their EXIF tag says"
    read.add_argument("--orientation", choices=("ignore", "apply"), default="ignore", help=text)
    text = "convert colours by the ICC profile"
    read.add_argument("--icc", choices=("ignore", "srgb"), default="ignore", help=text)
    text = "enlarge each picture until its shorter side has N pixels, where people see all at one size, "
    text += "whatever size they have (default, and 0: as the model does; liqe-tiny takes 224 to 768)"
    read.add_argument("--enlarge-to", type=int, default=0, metavar="N", help=text)
    text = "refuse pictures with more pixels (89478485); none: no limit"
    read.add_argument("--max-pixels", default="", metavar="N", help=text)
    text = "score files that are cut short, with grey for what is missing"
    read.add_argument("--truncated", choices=("refuse", "allow"), default="refuse", help=text)
    score.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    from liqe_core.intake.stopping import StopRequested, stoppable

    run = _Run(options)
    try:
        with stoppable() as stop:
            return run(stop)
    except StopRequested as stopped:
        print(f"\n{stopped}: {run.left()}", file=sys.stderr)
        return stopped.code


class _Run:
    """One run of the command, and what is there of it at any moment."""

    def __init__(self, options: argparse.Namespace):
        from liqe_core.commands.score_settings import Settings
        from liqe_core.commands.score_table import FORMS

        self.options = options
        self.settings = Settings.of(options)
        given = {form: path for form in FORMS if (path := getattr(options, form)) is not None}
        for form, path in given.items():
            if path in ("", "-"):
                raise ValueError(
                    f"--{form} {path!r}: give the name of a file; what is printed needs no option"
                )
        self.outputs = [
            # Where a link leads, so that it stays one.
            (form, Path(os.path.realpath(path) if os.path.islink(path) else path))
            for form, path in given.items()
        ]
        self.pictures: list[str] = []
        self.model: LIQE | None = None
        self.scores: Scores | ShardedScores | None = None
        #: What is noted as it goes, by one process or by workers; beside the first table, and gone when that
        #: is there.
        self.journal = Path(f"{self.outputs[0][1]}.journal") if self.outputs else None
        self.shards = Path(f"{self.outputs[0][1]}.shards") if self.outputs else None

    def __call__(self, stop: Stop) -> int:
        from liqe_core.commands.pictures import choose, read_list
        from liqe_core.commands.score_table import check_place
        from liqe_core.files import escaped, only_one

        options = self.options
        given = [*options.images, *(read_list(options.from_file) if options.from_file else ())]
        if not given:
            raise ValueError("no pictures given: name files or folders, or a list of them with --from-file")
        self.read = self.settings.reader()
        chosen = choose(given, options.include, options.exclude)
        self.pictures = chosen.pictures
        for line in chosen.told():
            print(escaped(line), file=sys.stderr)
        read_files = [options.checkpoint, options.from_file or "", *self.pictures]
        noted = [path.resolve() for path in (self.journal, self.shards) if path]
        for form, path in self.outputs:
            check_place(form, path, read_files)
            if path.resolve() in noted:
                raise ValueError(f"--{form} {path}: the name of what is noted as it goes; give another")
        if len({path.resolve() for _, path in self.outputs}) < len(self.outputs):
            raise ValueError("two tables of the same name: give each form its own")
        if options.scheduler and not self.outputs:
            raise ValueError("--scheduler needs a file for the table: give --csv FILE, or another form")
        stop.check()
        if self.journal is None:
            self._score(stop)
        else:
            with only_one(self.journal.resolve(), doing="scoring into"):
                self._prepare()
                with _workers(options, len(self.pictures)) as client:
                    if client:
                        self._score_on(client, stop)
                    else:
                        self._score(stop)
        return self._end()

    def _prepare(self) -> None:
        """Clear what a kill has left that is of no use, and with --restart everything."""
        from liqe_core.commands.score_table import clear_parts

        assert self.journal and self.shards
        for path in (self.journal, *(path for _, path in self.outputs)):
            clear_parts(path)
        if self.options.restart:
            self.journal.unlink(missing_ok=True)
            shutil.rmtree(self.shards, ignore_errors=True)

    def _score(self, stop: Stop) -> None:
        from liqe_core.commands.score_run import OtherRunError, Scores, score_all, take_up
        from liqe_core.data.journal import Journal

        if self.shards and self.shards.exists():
            raise OtherRunError(
                f"{self.shards} has the scores of a run over workers that was stopped: give --scheduler to "
                "go on; or --restart, to begin anew; or another name for the table"
            )
        kept = self.journal
        self.model = _model(self.settings)
        journal = Journal(kept or os.devnull, "")
        about = self.settings.about(self.model) if kept else None
        self.scores = Scores() if about is None else take_up(journal, about)
        if self.scores.entries:
            print(f"{self._counted()} were scored before, in {kept}: going on from there", file=sys.stderr)
        with self._told():
            score_all(
                self.model,
                self.pictures,
                self.read,
                self.options.batch_size,
                self.scores,
                journal,
                about,
                stop.check,
                progress=len(self.pictures) > 8,
                precision=self.options.precision,
            )
            self._write()
        if kept:
            kept.unlink()

    def _score_on(self, client: Client, stop: Stop) -> None:
        from liqe_core.commands.score_run import OtherRunError
        from liqe_core.commands.score_shards import ShardedScores, device_of

        assert self.journal and self.shards
        if self.journal.exists():
            raise OtherRunError(
                f"{self.journal} has the scores of a run in one process that was stopped: leave --scheduler "
                "out to go on; or give --restart, to begin anew; or another name for the table"
            )
        settings = dataclasses.replace(self.settings, device=device_of(client, self.settings.device))
        # Here it only says which words there are; workers have it on their devices.
        self.model = _model(dataclasses.replace(settings, device="cpu"))
        about = settings.about(self.model) | {"--device": settings.device.partition(":")[0]}
        before = self.shards.exists()
        self.scores = scores = ShardedScores(self.shards, self.pictures, settings, about)
        if before:
            print(f"{self.shards} has shards that were scored before: going on from there", file=sys.stderr)
        if not client.nthreads():
            where = f"dask worker --nthreads 1 {self.options.scheduler}"
            print(f"no worker is there yet: waiting for one; start it with `{where}`", file=sys.stderr)
        with self._told():
            scores.run(client, stop.check, progress=True)
            self._write()
        if scores.unseen:
            why = f"{scores.unseen} pictures are here, and workers could not open them: when they can, give"
            print(f"{why} the same command again; only those shards are scored again", file=sys.stderr)
        else:
            shutil.rmtree(self.shards)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What ends the block, a full disk say, is told with what there is."""
        from liqe_core.files import is_disk_full

        try:
            yield
        except OSError as error:
            folder = self.outputs[0][1].parent.resolve() if self.outputs else ""
            full = f"make room in {folder}; " if folder and is_disk_full(error) else ""
            raise OSError(f"{error}; {full}{self.left()}") from error

    def _write(self) -> None:
        from liqe_core.commands.score_table import write

        table = self._table()
        for form, path in self.outputs:
            write(form, path, table, self.read)

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
        kept = next((path for path in (self.journal, self.shards) if path and path.exists()), self.journal)
        if self.scores is None or self.model is None:
            if kept is not None and kept.exists():
                return f"what was scored before is in {kept}; give the same command again to go on"
            return "nothing was scored yet"
        if kept is not None:
            return f"{self._counted()} are scored and kept in {kept}; give the same command again to go on"
        self._print()
        return (
            f"{self._counted()} are scored; with a file for the table (--csv FILE), the same command given "
            "again goes on where it was stopped"
        )

    def _counted(self) -> str:
        assert self.scores is not None
        return f"{self.scores.count(self.pictures)} of {len(self.pictures)} pictures"

    def _table(self) -> Any:
        from liqe_core.files import escaped

        assert self.scores is not None and self.model is not None
        return self.scores.table(self.pictures, self.model, escaped, self.options.distributions)

    def _print(self) -> None:
        print(self._table().drop(columns="error", errors="ignore").to_string(index=False), flush=True)


def _model(settings: Settings) -> LIQE:
    if settings.checkpoint == PACKAGED and not Path(PACKAGED).is_file():  # else that file is taken
        print(f"scored by {PACKAGED}, the small model that comes with this package", file=sys.stderr)
    return settings.model()


@contextlib.contextmanager
def _workers(options: argparse.Namespace, pictures: int) -> Iterator[Client | None]:
    """Those of the scheduler that was named, or one for each of several GPUs; None: this process does it."""
    from liqe_core.commands.cluster import dask_client
    from liqe_core.commands.score_shards import SHARD

    missing = [name for name in ("distributed", "pyarrow") if importlib.util.find_spec(name) is None]
    install = f"pip install {' '.join(missing)}"
    if options.scheduler:
        if missing:
            raise ValueError(f"--scheduler needs the packages distributed and pyarrow: {install}")
        with dask_client(options.scheduler) as client:
            yield client
        return
    if options.device in ("auto", "cuda") and pictures > SHARD:
        import torch

        if (gpus := torch.cuda.device_count()) > 1:
            if not missing:
                with dask_client() as client:
                    yield client
                return
            print(f"{gpus} GPUs are here, and one is used; for all of them: {install}", file=sys.stderr)
    yield None
