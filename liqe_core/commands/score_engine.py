"""Resumable scoring of any number of images in shards, in this process or on Dask workers.

The last bits of a score depend on the other images in its batch. `plan` therefore divides the list of images
into fixed batches, independent of where they are scored, and into shards of whole batches. The scores of a
shard are saved atomically, in memory or as one file in a folder. A shard with current scores is not scored
again, and `table` concatenates the shards. The table has the same bytes no matter how often the run is
interrupted and where it is resumed.

The module has no heavy imports: Dask's scheduler imports the modules of its tasks and may run without torch.
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

#: Images per shard in this process and on a worker, rounded down to whole batches; a kill loses one shard.
SHARD_HERE, SHARD_ON_WORKER = 16, 256
#: Shards assigned to each worker at a time: the current one and the next.
AHEAD = 2
#: The file in the folder of the shards with the settings of the run.
ABOUT = "about.json"
#: The files that a folder of shards may contain, including partial files of a killed run.
OURS = re.compile(r"about\.json|\d{6,}\.jsonl|\..*\.part\.jsonl?")

#: Format version of the shard files; a run in another format is rejected, not resumed.
FORM = 3
#: The saved record of an image: its row of `Prediction.to_frame` with all columns, text escaped, and its
#: `Shard.stamp` before it was read.
Row = dict[str, Any]
#: The stamp of a file that cannot be opened.
ABSENT = [-1, -1]

# A model uses all threads of its process: scoring two shards in parallel would slow down both.
_one_at_a_time = threading.Lock()


class OtherRunError(ValueError):
    """The folder has the shards of a run with a different checkpoint or settings; the message names them."""


class ShardError(OSError):
    """A shard cannot be scored; the message says where, why, and what to do."""


def load_model(checkpoint: str, geometry: str, grid: str, device: str = "cpu") -> LIQE:
    """Load the model for the options of the same names.

    Raises:
        ValueError: no such geometry or grid.
        CheckpointError: no such checkpoint.
    """
    from liqe_core import LIQE, PromptGrid
    from liqe_core.crops import CropGeometry

    if geometry:
        CropGeometry.named(geometry)  # fail before the checkpoint is read
    prompts = PromptGrid.variant(grid) if grid else None
    return LIQE.from_checkpoint(checkpoint, geometry=geometry or None, grid=prompts, device=device)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of ``liqe score`` that scores depend on."""

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
        """Take the settings from parsed command-line options."""
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(cls)})

    def reader(self) -> Callable[[str], Image.Image]:
        """Return a function from a path to an 8-bit RGB image.

        Raises:
            ValueError: the limit of pixels is not a number.
        """
        from liqe_core.images import MAX_PIXELS, read_image

        limit = None if self.max_pixels == "none" else self.max_pixels or str(MAX_PIXELS)
        if limit and not (limit.isdecimal() and int(limit)):
            raise ValueError(f"--max-pixels {limit}: not a positive integer; give a number from 1, or none")
        return functools.partial(
            read_image,
            max_pixels=int(limit) if limit else None,
            truncated="accept" if self.truncated == "allow" else "refuse",
            orientation=self.orientation,
            icc=self.icc,
        )

    def model(self) -> LIQE:
        """Load the model on its device.

        Raises:
            ValueError: a setting is invalid, or the device does not exist.
            CheckpointError: no such checkpoint.
        """
        from liqe_core.scoring import check_precision

        if self.batch_size < 1:
            raise ValueError(f"--batch-size {self.batch_size}: must be at least 1")
        model = load_model(self.checkpoint, self.geometry, self.grid, device_name(self.device))
        check_precision(self.precision, model)  # fail before a folder is created
        if self.enlarge_to:
            model.geometry = dataclasses.replace(model.geometry, enlarge_to=self.enlarge_to)
        return model

    def about(self, model: LIQE) -> dict[str, Any]:
        """Return the identity of a run: values that must be equal to resume it, by their names in messages.

        Args:
            model: the model of these settings.
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
    """Whole batches of images, their settings, and the place of their scores.

    Attributes:
        images: names in order.
        root: the folder that relative names are relative to.
        path: file of the scores, with one line of JSON per image; None: scores stay in memory, in `rows`.
    """

    number: int
    images: Sequence[str]
    settings: Settings
    root: str
    path: Path | None = None
    rows: list[Row] | None = None

    def file(self, image: str) -> str:
        """Return the absolute path of an image; URLs are unchanged."""
        return image if is_url(image) else os.path.join(self.root, image)

    def stamp(self, image: str) -> list[int]:
        """Return size and modification time of an image; `ABSENT` if this process cannot open it."""
        try:
            status = os.stat(self.file(image))
            readable = os.access(self.file(image), os.R_OK)
        except (OSError, ValueError):
            return ABSENT
        return [status.st_size, status.st_mtime_ns] if readable else ABSENT

    def kept(self) -> list[Row] | None:
        """Return the saved scores, or None."""
        if self.path is None:
            return self.rows
        try:
            rows = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            return rows if all(row.keys() >= {"image", "error", "note", "stamp"} for row in rows) else None
        except (OSError, ValueError, AttributeError):
            return None

    def keep(self, rows: list[Row]) -> None:
        """Save the scores atomically."""
        if self.path is None:
            self.rows = rows
            return
        _begun_with(self.path.parent)  # fails if the run has ended and removed its folder
        with atomic_path(self.path) as part:
            part.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    def scored(self) -> int | None:
        """Return the number of images with a score; None if the shard must be scored (again).

        A shard is scored again if a file has changed or become readable, or if a URL failed.
        """
        rows = self.kept()
        if rows is None or [row["image"] for row in rows] != list(map(escaped, self.images)):
            return None
        for image, row in zip(self.images, rows, strict=True):
            if row["stamp"] != self.stamp(image) or (row["error"] and is_url(image)):
                return None
        return sum(not row["error"] for row in rows)


def plan(images: Sequence[str], settings: Settings, size: int, folder: Path | None = None) -> list[Shard]:
    """Divide the images of a run, without duplicates, into shards of `size` (a multiple of the batch size).

    Args:
        folder: folder of the shard files; None: in memory.
    """
    unique, root = list(dict.fromkeys(images)), os.getcwd()
    return [
        Shard(number, unique[start : start + size], settings, root, folder and folder / f"{number:06}.jsonl")
        for number, start in enumerate(range(0, len(unique), size))
    ]


def check_folder(folder: Path) -> None:
    """Check that a folder holds nothing but shards, since it is removed when the table is written.

    Raises:
        ValueError: the folder holds other files.
    """
    if folder.exists() and not (
        folder.is_dir() and all(OURS.fullmatch(path.name) for path in folder.iterdir())
    ):
        raise ValueError(
            f"{folder}: holds other files, but progress is saved under this name; move them, or give "
            "the table another name"
        )


def begin(folder: Path, about: Mapping[str, Any], size: int) -> int:
    """Start a run in a folder or resume the existing one, and return the number of images per shard.

    Args:
        about: see `Settings.about`.
        size: images per shard for a new run.

    Raises:
        OtherRunError: the folder belongs to a run with different settings.
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
        raise OtherRunError(f"{begun}: damaged; start over with --restart") from None
    if differences:
        raise OtherRunError(
            f"{folder} has the scores of an interrupted run with another {', '.join(differences)}; "
            "use the same options to resume it, --restart to discard it, or another name "
            "for the table"
        )
    return shard


def differing(before: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Return the keys of `about` whose values differ from `before`."""
    return [word for word in about if before.get(word) != about[word]]


def score_here(model: LIQE, shards: Sequence[Shard]) -> Generator[tuple[Shard, int], None, None]:
    """Score shards in this process and save their scores; images are read ahead across shards.

    Yields the same as `score_on_workers`.

    Args:
        shards: shards of one plan.
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
        stamps[image] = shards[0].stamp(image)  # before the image is read, so that later changes are detected
        try:
            crops = scoring_crops(read(file(image)), model.geometry, image)
            if is_uniform(crops):
                uniform.add(image)
            return crops
        except ImageError as error:  # use the name that the user gave
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
    """Score one shard on a Dask worker and write its file.

    Returns:
        The number of images with a score.

    Raises:
        ShardError: this process cannot access the run's folder, has a different checkpoint or version, or
            fails.
    """
    assert shard.path
    try:
        with _one_at_a_time:
            about = _begun_with(shard.path.parent)
            # Dask repeats a task if the worker that holds its result dies.
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
    """Load the model once per process.

    Args:
        begun_with: content of the run's `ABOUT` file.
    """
    try:
        model = settings.model()
        about = settings.about(model)
    except (ValueError, OSError, RuntimeError) as error:
        raise ShardError(f"{_this_worker()} cannot load the model: {error}") from error
    if differences := differing(json.loads(begun_with), about):
        raise ShardError(
            f"{_this_worker()} has another {', '.join(differences)} than the process that started the run; "
            "install the same packages and the same checkpoint on all workers, or stop this one"
        )
    return model


def _begun_with(folder: Path) -> str:
    try:
        return (folder / ABOUT).read_text(encoding="utf-8")
    except OSError:
        raise ShardError(
            f"{_this_worker()} cannot access {folder}; start workers on machines where the images and the "
            "table's folder have the same paths as for the process that started the run"
        ) from None


def _this_worker() -> str:
    return f"the worker on {socket.gethostname()} (process {os.getpid()})"


def score_on_workers(
    client: Client, shards: Sequence[Shard], work: Callable[[Shard], int] = score_shard
) -> Generator[tuple[Shard, int], None, None]:
    """Score shards on Dask workers, a few per worker at a time.

    If a worker dies, another one takes its shards. Dask gives up a shard after four dead workers, even if the
    shard was only waiting. Such shards are scored again at the end, one at a time; an error is raised only
    for a shard whose workers die again.

    Args:
        work: function that scores a shard on a worker.

    Yields:
        Each finished shard and its number of images with a score.

    Raises:
        ShardError: a worker failed, a shard was given up, or the scheduler is unreachable.
    """
    from distributed import KilledWorker, as_completed

    completed, name, waiting = as_completed(), uuid.uuid4().hex, iter(shards)
    sent: dict[Future, Shard] = {}
    suspects: list[Shard] = []
    fatal: list[Shard] = []

    def send() -> None:
        for shard in islice(waiting, max(0, AHEAD * max(1, len(client.nthreads())) - len(sent))):
            # The scheduler keeps state per task prefix forever, so all runs share the prefix "shard".
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
            del future  # frees the result on the worker
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
        raise ShardError("lost the connection to the Dask scheduler") from error
    except Exception as error:  # the task failed before `score_shard` was called
        reason = f"{type(error).__name__}: {error}"
        raise ShardError(
            f"a worker cannot run this task ({reason}); install the same packages on all workers"
        ) from error
    if fatal:
        count, first, last = len(fatal), fatal[0].images[0], fatal[0].images[-1]
        raise ShardError(
            f"{count} shards were given up because their workers died; the first has {first} to {last}; see "
            "the logs of the workers, for example whether memory ran out"
        )


def table(shards: Sequence[Shard], images: Sequence[str], distributions: bool) -> pd.DataFrame:
    """Return the table of all images with saved scores, in order; see `Prediction.to_frame`.

    Names are escaped by `files.escaped`.
    """
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
    """Resolve the name of a device, see `torch_device`; ``auto`` may also select ``mps``.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
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
    """Resolve the device of this process or of all workers; ``auto`` is the fastest one.

    Raises:
        ValueError: see `device_name`; or ``auto`` selects different devices on different workers.
    """
    if client is None:
        return device_name(name)
    if name != "auto":
        return name
    kinds = sorted(set(client.run(device_name, name).values()))
    if len(kinds) > 1:
        raise ValueError(f"--device auto: some workers have {' and some '.join(kinds)}; name the device")
    return kinds[0] if kinds else "cpu"
