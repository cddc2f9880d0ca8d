"""``liqe score``: predict quality, scene and distortion of images."""

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

import pandas as pd
import torch

from liqe_core import LIQE
from liqe_core.commands import score_engine as engine
from liqe_core.commands import score_files as files
from liqe_core.commands.options import PACKAGED
from liqe_core.files import escaped, is_disk_full, only_one
from liqe_core.images import ImageNotFoundError, is_url
from liqe_core.intake.progress import tqdm
from liqe_core.intake.stopping import Stop, StopRequested, stoppable
from liqe_core.metric import export

if TYPE_CHECKING:
    from distributed import Client


def run_score(options: argparse.Namespace) -> int:
    """Score images and return the exit code."""
    run = _Run(options)
    try:
        with stoppable() as stop:
            return run(stop)
    except StopRequested as stopped:
        print(f"\n{stopped}: {run.progress()}", file=sys.stderr)
        return stopped.code


def run_export(options: argparse.Namespace) -> int:
    """Export a model for programs without this package."""
    model = engine.load_model(options.checkpoint, options.geometry, options.grid)
    export(model, options.file)
    print(
        f"{options.file}: from uint8 crops (images, crops, 3, {model.geometry.window}, "
        f"{model.geometry.window}) to joint probabilities and quality"
    )
    return 0


class _Run:
    """One run of the command and its progress."""

    model: LIQE

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.settings = engine.Settings.from_options(options)
        self.read = self.settings.reader()
        self.outputs = files.outputs(options)
        self.tables = [path for _, path in self.outputs if not files.is_stream(path)]
        #: Folder of the shards, next to the first table, until that is written; None: shards stay in memory.
        self.folder = Path(f"{self.tables[0]}.shards") if self.tables else None
        self.images: list[str] = []
        self.shards: list[engine.Shard] = []
        self.scored = 0

    def __call__(self, stop: Stop) -> int:
        options = self.options
        paths = [*options.images, *(files.read_list(options.from_file) if options.from_file else ())]
        if not paths:
            raise ValueError("no images given; name files or folders, or pass a list with --from-file")
        selection = files.choose(paths, options.include, options.exclude)
        self.images = selection.images
        if not (options.scheduler or any(is_url(image) or os.path.lexists(image) for image in self.images)):
            raise ImageNotFoundError(f"{self.images[0]}: no such file; check the path")
        for line in files.summary(selection):
            print(escaped(line), file=sys.stderr)
        files.check_places(self.outputs, [options.checkpoint, options.from_file or "", *self.images])
        if options.scheduler and not self.folder:
            raise ValueError("--scheduler needs an output file; add --csv FILE or another table option")
        stop.check()
        if self.folder is None:
            return self._run(stop, None)
        with only_one(self.folder.resolve(), doing="scoring into"):
            engine.check_folder(self.folder)
            for path in self.tables:
                files.clear_parts(path)
            if options.restart:
                shutil.rmtree(self.folder, ignore_errors=True)
            with _workers(options, len(self.images)) as client:
                return self._run(stop, client)

    def _run(self, stop: Stop, client: Client | None) -> int:
        self._plan(client)
        try:
            self._score(stop, client)
            table = engine.table(self.shards, self.images, self.options.distributions)
            for form, path in self.outputs:
                files.write(form, path, table, self.read)
        except BrokenPipeError:
            raise
        except OSError as error:
            full = self.folder and is_disk_full(error)
            advice = f"free up space in {self.folder.resolve().parent}; " if full and self.folder else ""
            raise OSError(f"{error}; {advice}{self.progress()}") from error
        if self.folder:
            shutil.rmtree(self.folder)
        if self.outputs:
            scored = f"{table['quality'].notna().sum()} of {len(table)} images"
            places = ", ".join(escaped(str(path)) for _, path in self.outputs)
            streams = len(self.tables) < len(self.outputs)
            print(f"{scored} scored: {places}", file=sys.stderr if streams else sys.stdout)
        else:
            _print(table)
        errors = dict.fromkeys(table["error"].dropna()) if "error" in table else {}
        for reason in errors:
            print(reason, file=sys.stderr)
        return 1 if errors else 0

    def _plan(self, client: Client | None) -> None:
        """Load the model and plan the shards, resuming the run in the folder if there is one."""
        device = engine.device_for(self.settings.device, client)
        settings = dataclasses.replace(self.settings, device=device)
        if Path(settings.checkpoint).is_file():  # workers may have been started in another folder
            settings = dataclasses.replace(settings, checkpoint=os.path.abspath(settings.checkpoint))
        elif settings.checkpoint == PACKAGED:
            print(
                f"using {PACKAGED}, the small built-in model; for better scores use --checkpoint official",
                file=sys.stderr,
            )
        # With workers, the model only provides the prompts here; each worker loads its own on its device.
        self.model = (dataclasses.replace(settings, device="cpu") if client else settings).model()
        folder, size = self.folder and self.folder.absolute(), settings.batch_size
        if folder:
            shard_size = engine.SHARD_ON_WORKER if client else engine.SHARD_HERE
            size = engine.begin(folder, settings.about(self.model), shard_size)
        self.shards = engine.plan(self.images, settings, size, folder)

    def _score(self, stop: Stop, client: Client | None) -> None:
        """Score the shards without saved scores; scores are saved shard by shard."""
        pending = []
        total = sum(len(shard.images) for shard in self.shards)
        with tqdm(total=total, disable=not client and total <= 8, unit="image") as bar:

            def note(shard: engine.Shard, scored: int) -> None:
                self.scored += scored
                bar.update(len(shard.images))
                stop.check()

            for shard in self.shards:
                if (scored := shard.scored()) is None:
                    pending.append(shard)
                else:
                    note(shard, scored)
            if len(pending) < len(self.shards):
                print(f"resuming: {self._count()} already scored in {self.folder}", file=sys.stderr)
            if client and not client.nthreads():
                command = f"dask worker --nthreads 1 {self.options.scheduler}"
                print(f"waiting for a worker; start one with `{command}`", file=sys.stderr)
            if client:
                results = engine.score_on_workers(client, pending)
            else:
                results = engine.score_here(self.model, pending)
            with contextlib.closing(results):
                for shard, scored in results:
                    note(shard, scored)

    def progress(self) -> str:
        """Describe the progress of a stopped run and how to resume it; print the table if it has no file."""
        if not self.shards:
            return "no image was scored; the same command resumes an earlier run if there is one"
        if self.folder:
            return (
                f"{self._count()} are scored and saved in {self.folder}; run the same command again to resume"
            )
        if self.scored and not self.outputs:
            _print(engine.table(self.shards, self.images, self.options.distributions))
        return (
            f"{self._count()} are scored; with an output file (--csv FILE), the same command can "
            "resume an interrupted run"
        )

    def _count(self) -> str:
        return f"{self.scored} of {len(self.images)} images"


def _print(table: pd.DataFrame) -> None:
    print(table.drop(columns="error", errors="ignore").to_string(index=False), flush=True)


@contextlib.contextmanager
def _workers(options: argparse.Namespace, images: int) -> Iterator[Client | None]:
    """Provide the workers of the scheduler, or one per GPU if there are several; None: score in-process."""
    from liqe_core.commands.sweep import dask_client

    many = options.device in ("auto", "cuda") and images > engine.SHARD_ON_WORKER
    gpus = torch.cuda.device_count() if many else 0
    if options.scheduler or (gpus > 1 and importlib.util.find_spec("distributed")):
        with dask_client(options.scheduler) as client:
            yield client
        return
    if gpus > 1:
        print(f"using one of {gpus} GPUs; to use all, run: pip install distributed", file=sys.stderr)
    yield None
