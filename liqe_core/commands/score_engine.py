"""Scoring any number of images, shard by shard: in this process or on Dask workers, and resumable.

The scores of a batch depend, in their last bits, on which images are in it together. So `plan` lays whole
batches over the list of images, whatever scores them where, and cuts the list into shards of whole batches.
The scores of a shard are kept at once or not at all: in memory, or as one file in a folder. A shard that is
kept and current is not scored again, and `table` is the shards' concatenation. However often a run is stopped
and wherever it goes on, its table has the same bytes.

Light until it runs: Dask's scheduler imports what a task names, and need not have torch for that.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import re
import socket
import threading
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liqe_core.files import atomic_path, escaped, write_json
from liqe_core.images import is_url

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client, Future
    from PIL import Image
    from torch import Tensor

    from liqe_core import LIQE
    from liqe_core.images import ImageError

#: Images of a shard in this process and on a worker, rounded down to whole batches: what a kill loses.
SHARD_HERE, SHARD_ON_WORKER = 16, 256
#: Shards that each worker has at a time: the one that it scores, and the next.
AHEAD = 2
#: In the folder of the shards: what the run was begun with.
ABOUT = "about.json"
#: The files that a folder of shards may hold, and what a kill leaves of them.
OURS = re.compile(r"about\.json|\d{6,}\.jsonl|\..*\.part\.jsonl?")

#: Of the files of shards; a run that was begun in another form is refused, not continued.
FORM = 3
#: What is kept of an image: its row of `Prediction.to_frame` with all columns, text escaped, and its
#: `Shard.stamp` before it was read.
Row = dict[str, Any]
#: The stamp of a file that cannot be opened.
ABSENT = [-1, -1]

# A model takes all threads of its process: two shards at once would only be in each other's way.
_one_at_a_time = threading.Lock()


class OtherRunError(ValueError):
    """The folder has the shards of a run with other weights or settings; says which."""


class ShardError(OSError):
    """A shard cannot be scored; says where, why, and what to do."""


def load_model(checkpoint: str, geometry: str, grid: str, device: str = "cpu") -> LIQE:
    """The model that the options of these names ask for.

    Raises:
        ValueError: no such geometry or grid. CheckpointError: no such weights.
    """
    from liqe_core import LIQE, PromptGrid
    from liqe_core.crops import CropGeometry

    if geometry:
        CropGeometry.named(geometry)  # refused before the weights are read
    prompts = PromptGrid.variant(grid) if grid else None
    return LIQE.from_checkpoint(checkpoint, geometry=geometry or None, grid=prompts, device=device)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of ``liqe score`` of these names: what scores depend on beside the images."""

    checkpoint: str
    geometry: str
    enlarge_to: int
    grid: str
    device: str
    batch_size: int
    precision: str
    orientation: str
    icc: str
    max_pixels: str
    truncated: str

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Settings:
        """Those of a command line."""
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(cls)})

    def reader(self) -> Callable[[str], Image.Image]:
        """From a path to 8-bit RGB.

        Raises:
            ValueError: a limit that is not a number.
        """
        from liqe_core.images import MAX_PIXELS, read_image

        limit = None if self.max_pixels == "none" else self.max_pixels or str(MAX_PIXELS)
        if limit and not (limit.isdecimal() and int(limit)):
            raise ValueError(f"--max-pixels {limit}: give a number from 1, or none")
        return functools.partial(
            read_image,
            max_pixels=int(limit) if limit else None,
            truncated="accept" if self.truncated == "allow" else "refuse",
            orientation=self.orientation,
            icc=self.icc,
        )

    def model(self) -> LIQE:
        """The model, on its device.

        Raises:
            ValueError: a setting is invalid, or there is no such device. CheckpointError: no such weights.
        """
        from liqe_core.scoring import check_precision

        if self.batch_size < 1:
            raise ValueError(f"--batch-size {self.batch_size}: give a number from 1")
        model = load_model(self.checkpoint, self.geometry, self.grid, device_name(self.device))
        check_precision(self.precision, model)  # refused before a folder is made
        if self.enlarge_to:
            model.geometry = dataclasses.replace(model.geometry, enlarge_to=self.enlarge_to)
        return model

    def about(self, model: LIQE) -> dict[str, Any]:
        """What a run is known again by, under the words that a refusal names it with.

        Args:
            model: of these settings.
        """
        import PIL
        import torch

        from liqe_core import __version__
        from liqe_core.checkpoints import located
        from liqe_core.files import file_sha256

        options = {f"--{name.replace('_', '-')}": value for name, value in dataclasses.asdict(self).items()}
        return options | {
            "--checkpoint": file_sha256(located(self.checkpoint)),
            "--geometry": dataclasses.asdict(model.geometry),
            "--grid": model.grid.to_dict(),
            "--device": self.device.partition(":")[0],
            "version of liqe_core, torch or Pillow": [FORM, __version__, torch.__version__, PIL.__version__],
        }


@dataclasses.dataclass
class Shard:
    """Whole batches of images, how to score them, and the place of their scores.

    Attributes:
        images: names, in order.
        root: the folder that relative names are relative to.
        path: of the file of its scores, a line of JSON for each image; None: they stay in memory, in `rows`.
    """

    number: int
    images: Sequence[str]
    settings: Settings
    root: str
    path: Path | None = None
    rows: list[Row] | None = None

    def file(self, image: str) -> str:
        """An image's file; a URL is its own."""
        return image if is_url(image) else os.path.join(self.root, image)

    def stamp(self, image: str) -> list[int]:
        """Size and time of an image's file now; `ABSENT` where this process cannot open it."""
        try:
            status = os.stat(self.file(image))
            readable = os.access(self.file(image), os.R_OK)
        except (OSError, ValueError):
            return ABSENT
        return [status.st_size, status.st_mtime_ns] if readable else ABSENT

    def kept(self) -> list[Row] | None:
        """Its scores, where they are kept."""
        if self.path is None:
            return self.rows
        try:
            rows = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            return rows if all(row.keys() >= {"image", "error", "note", "stamp"} for row in rows) else None
        except (OSError, ValueError, AttributeError):
            return None

    def keep(self, rows: list[Row]) -> None:
        """Keep its scores: all of them, or on an error none."""
        if self.path is None:
            self.rows = rows
            return
        _begun_with(self.path.parent)  # a run that has ended since has removed its folder
        with atomic_path(self.path) as part:
            part.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    def scored(self) -> int | None:
        """How many of its images have a score; None where it is to be scored, also again: a file has changed
        since, or can be opened by now, or a URL could not be read."""
        rows = self.kept()
        if rows is None or [row["image"] for row in rows] != list(map(escaped, self.images)):
            return None
        for image, row in zip(self.images, rows, strict=True):
            if row["stamp"] != self.stamp(image) or (row["error"] and is_url(image)):
                return None
        return sum(not row["error"] for row in rows)


def plan(images: Sequence[str], settings: Settings, size: int, folder: Path | None = None) -> list[Shard]:
    """All shards of a run: its images cut every `size`, a whole number of batches; one image counts once.

    Args:
        folder: where the shards' files are; None: in memory.
    """
    unique, root = list(dict.fromkeys(images)), os.getcwd()
    return [
        Shard(number, unique[start : start + size], settings, root, folder and folder / f"{number:06}.jsonl")
        for number, start in enumerate(range(0, len(unique), size))
    ]


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but shards, since it is removed when the table is written.

    Raises:
        ValueError: it does.
    """
    if folder.exists() and not (
        folder.is_dir() and all(OURS.fullmatch(path.name) for path in folder.iterdir())
    ):
        raise ValueError(
            f"{folder}: progress is saved under this name, and it holds something else; move that, or give "
            "another name for the table"
        )


def begin(folder: Path, about: Mapping[str, Any], size: int) -> int:
    """Begin a run in a folder, or take up the one that was begun there; returns the images of its shards.

    Args:
        about: see `Settings.about`.
        size: of the shards of a run that begins.

    Raises:
        OtherRunError: the folder is another run's.
    """
    begun = folder / ABOUT
    if not begun.exists():
        write_json(begun, {**about, "shard": max(1, size // about["--batch-size"]) * about["--batch-size"]})
    try:
        before = json.loads(begun.read_text(encoding="utf-8"))
        differences, shard = differing(before, about), int(before["shard"])
        if shard < 1 or shard % before["--batch-size"]:
            raise ValueError(shard)
    except (ValueError, AttributeError, KeyError, TypeError, ArithmeticError):
        raise OtherRunError(f"{begun}: damaged; begin anew with --restart") from None
    if differences:
        raise OtherRunError(
            f"{folder} has the scores of a run that was stopped, with another {', '.join(differences)}; "
            "give the options that it was begun with, to go on; or --restart, to begin anew; or another name "
            "for the table"
        )
    return shard


def differing(before: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """The words of `about` whose values are others than before."""
    return [word for word in about if before.get(word) != about[word]]


def score_here(model: LIQE, shards: Sequence[Shard]) -> Generator[tuple[Shard, int], None, None]:
    """Score shards in this process and keep their scores; reading ahead goes on from one shard to the next.

    Yields as `score_on_workers` does.

    Args:
        shards: of one plan.
    """
    from liqe_core.crops import scoring_crops
    from liqe_core.images import ImageError
    from liqe_core.prediction import Prediction
    from liqe_core.scoring import UNIFORM, is_uniform, joint_by_batch, with_names

    if not shards:
        return
    settings, file, stamps, uniform = shards[0].settings, shards[0].file, {}, set()
    read = settings.reader()

    def crops_of(image: str) -> Tensor | ImageError:
        stamps[image] = shards[0].stamp(image)  # before it is read: a later change shows
        try:
            crops = scoring_crops(read(file(image)), model.geometry, image)
            if is_uniform(crops):
                uniform.add(image)
            return crops
        except ImageError as error:  # named as the user named the image
            return ImageError(str(error).replace(file(image), str(Path(image))))

    def batches_of(shard: Shard) -> list[Sequence[str]]:
        starts = range(0, len(shard.images), settings.batch_size)
        return [shard.images[start : start + settings.batch_size] for start in starts]

    batches = [batch for shard in shards for batch in batches_of(shard)]
    with contextlib.closing(joint_by_batch(model, crops_of, batches, settings.precision)) as results:
        for shard in shards:
            rows: list[Row] = []
            for batch, (joint, errors) in zip(batches_of(shard), results, strict=False):
                reasons = {i: escaped(reason) for i, reason in with_names(errors, batch).items()}
                answer = Prediction(joint.cpu(), model.grid, tuple(map(escaped, batch)), reasons)
                for image, row in zip(batch, answer.to_frame(True).to_dict("records"), strict=True):
                    row |= {"error": row.get("error"), "note": UNIFORM if image in uniform else None}
                    rows.append({**row, "stamp": stamps.pop(image)})
            shard.keep(rows)
            yield shard, sum(not row["error"] for row in rows)


def score_shard(shard: Shard) -> int:
    """What a Dask worker does: score one shard and write its file.

    Returns:
        How many of its images have a score.

    Raises:
        ShardError: this process does not see the run's folder, has other weights or another version, or
            fails.
    """
    assert shard.path
    try:
        with _one_at_a_time:
            about = _begun_with(shard.path.parent)
            # Dask runs a task again when the worker that holds its result dies.
            if (before := shard.scored()) is not None:
                return before
            ((_, scored),) = score_here(_loaded(shard.settings, about), [shard])
            return scored
    except ShardError:
        raise
    except Exception as error:
        raise ShardError(f"{_this_worker()} failed ({type(error).__name__}: {error})") from error


@functools.lru_cache(maxsize=1)
def _loaded(settings: Settings, begun_with: str) -> LIQE:
    """The model, once a process.

    Args:
        begun_with: the content of the run's `ABOUT`.
    """
    try:
        model = settings.model()
        about = settings.about(model)
    except (ValueError, OSError, RuntimeError) as error:
        raise ShardError(f"{_this_worker()} cannot load the model: {error}") from error
    if differences := differing(json.loads(begun_with), about):
        raise ShardError(
            f"{_this_worker()} has another {', '.join(differences)} than the process that started the run: "
            "give all workers the same packages and the same file of weights, or stop this one"
        )
    return model


def _begun_with(folder: Path) -> str:
    try:
        return (folder / ABOUT).read_text(encoding="utf-8")
    except OSError:
        raise ShardError(
            f"{_this_worker()} does not see {folder}: start workers where the images and the table's folder "
            "have the same paths as for the process that starts the run"
        ) from None


def _this_worker() -> str:
    return f"the worker on {socket.gethostname()} (process {os.getpid()})"


def score_on_workers(
    client: Client, shards: Sequence[Shard], work: Callable[[Shard], int] = score_shard
) -> Generator[tuple[Shard, int], None, None]:
    """Have Dask workers score shards, a few a worker at a time.

    If a worker dies, another one takes its shards. Dask gives up a shard after four dead workers, even if the
    shard only waited on them. Such shards are scored again at the end, one at a time: only a shard that ends
    its workers then is blamed.

    Args:
        work: done for each shard, on a worker.

    Yields:
        Each shard whose file is there, and how many of its images have a score.

    Raises:
        ShardError: a worker refuses; workers died of a shard; the scheduler has gone.
    """
    from distributed import KilledWorker, as_completed

    completed, name, waiting = as_completed(), uuid.uuid4().hex, iter(shards)
    sent: dict[Future, Shard] = {}
    suspects: list[Shard] = []
    fatal: list[Shard] = []

    def send() -> None:
        for shard in islice(waiting, max(0, AHEAD * max(1, len(client.nthreads())) - len(sent))):
            # The scheduler keeps something of each kind of task for good: these are all of one.
            future = client.submit(work, shard, key=(f"shard-{name}", shard.number), pure=False)
            sent[future] = shard
            completed.add(future)

    try:
        send()
        for future in completed:
            shard = sent.pop(future)
            try:
                yield shard, future.result()
            except KilledWorker:
                suspects.append(shard)
            del future  # its result leaves the worker
            send()
        for shard in suspects:
            alone = client.submit(work, shard, key=(f"shard-{name}-alone", shard.number), pure=False)
            try:
                yield shard, alone.result()
            except KilledWorker:
                fatal.append(shard)
    except ShardError:
        raise
    except (OSError, CancelledError) as error:
        if isinstance(error, OSError) and client.status == "running":
            raise
        raise ShardError("the Dask scheduler has gone") from error
    except Exception as error:  # it did not come as far as `score_shard`
        reason = f"{type(error).__name__}: {error}"
        raise ShardError(
            f"a worker does not know this task ({reason}): give all workers the same packages"
        ) from error
    if fatal:
        count, first, last = len(fatal), fatal[0].images[0], fatal[0].images[-1]
        raise ShardError(
            f"{count} shards have each ended worker after worker; the first has {first} to {last}: see the "
            "logs of the workers, for example whether memory ran out"
        )


def table(shards: Sequence[Shard], images: Sequence[str], distributions: bool) -> pd.DataFrame:
    """The table of the images whose shards are kept, in their order; see `Prediction.to_frame`. Names are
    escaped by `files.escaped`."""
    import numpy as np
    import pandas as pd

    parts = []
    for rows in filter(None, (shard.kept() for shard in shards)):
        part = pd.DataFrame(rows, dtype=object).drop(columns="stamp")
        numbers = [name for name in part if name == "quality" or name.endswith("_probability") or "=" in name]
        parts.append(part.astype(dict.fromkeys(numbers, np.float32) | {"image": str}))
    if not parts:
        return pd.DataFrame()
    known = pd.concat(parts).set_index("image")
    known = known.loc[[name for name in map(escaped, images) if name in known.index]].reset_index()
    messages = {name: known.pop(name) for name in ("error", "note")}
    if not distributions:
        known = known.drop(columns=[name for name in known if "=" in name])
    return known.assign(**{name: column for name, column in messages.items() if column.notna().any()})


def device_name(name: str) -> str:
    """The device that a word stands for: see `torch_device`; ``auto`` is ``mps``, too, where that is fastest.

    Raises:
        ValueError: another word, or no such device here.
    """
    import torch

    from liqe_core.evaluation.distributed import torch_device

    if name == "auto" and torch.backends.mps.is_available() and not torch.cuda.is_available():
        name = "mps"
    try:
        return str(torch_device(name))
    except ValueError as error:
        raise ValueError(f"--device {name}: {error}") from None


def device_for(name: str, client: Client | None) -> str:
    """The device of this process, or of all workers: ``auto`` is the fastest that they have.

    Raises:
        ValueError: as `device_name`; or workers differ.
    """
    if client is None:
        return device_name(name)
    if name != "auto":
        return name
    kinds = sorted(set(client.run(device_name, name).values()))
    if len(kinds) > 1:
        raise ValueError(f"--device auto: some workers have {' and some '.join(kinds)}; say which to use")
    return kinds[0] if kinds else "cpu"
