"""What a worker of `score_shards` does: the pictures of one shard, and a table of them.

Light until it runs: Dask's scheduler, too, imports what a task names, and need not have torch for that.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from liqe_core.commands.score_settings import Settings
from liqe_core.files import atomic_path, escaped

if TYPE_CHECKING:
    from PIL import Image

    from liqe_core import LIQE

#: In the folder of the shards: what the run was begun with; see `Settings.about`.
ABOUT = "about.json"

#: What a shard's table has beside scores: the file's size and time before it was read, -1 where there is no
#: such file, and the machine, where a worker there could not open it.
STAMPS = ["size", "time", "unseen"]

# A model takes all threads of its process: two shards at once would only be in each other's way.
_one_at_a_time = threading.Lock()


class ShardError(OSError):
    """A shard cannot be scored; says where, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """What a worker is told.

    Attributes:
        path: of the table to write.
        pictures: what to score, in order.
        folder: that relative names are relative to.
        settings: how.
    """

    path: Path
    pictures: tuple[str, ...]
    folder: Path
    settings: Settings

    def file(self, picture: str) -> str:
        """Where a picture is for a process that was started in any folder."""
        from liqe_core.images import is_url

        return picture if is_url(picture) else str(self.folder / picture)

    def opens(self, picture: str) -> bool:
        """Whether a picture's file can be opened here; of a URL that is not asked."""
        file = self.file(picture)
        return file == picture or os.access(file, os.R_OK)

    def stamps(self) -> list[tuple[int, int]]:
        """Size and time of each picture's file now."""
        return [_stamp(self.file(picture)) for picture in self.pictures]

    def scored(self) -> int | None:
        """How many pictures have a score in the table; None where there is no table, it is of other
        pictures, one has changed since, or one that its worker could not open can be opened here."""
        import numpy as np
        import pandas as pd

        try:
            table = pd.read_parquet(self.path, columns=["image", "quality", *STAMPS])
        except (OSError, ValueError, KeyError):
            return None
        if table["image"].tolist() != [escaped(picture) for picture in self.pictures]:
            return None
        if list(zip(table["size"], table["time"], strict=True)) != self.stamps():
            return None
        unseen = (self.pictures[i] for i in np.flatnonzero(table["unseen"] != ""))
        if any(self.opens(picture) for picture in unseen):
            return None
        return int(table["quality"].notna().sum())


def score_shard(shard: Shard) -> int:
    """What a worker does: score a shard's pictures and write its table.

    Returns:
        How many have a score.

    Raises:
        ShardError: this process does not see the run's folder, has other weights or another version, or
            fails.
    """
    try:
        with _one_at_a_time:
            about = _begun_with(shard.path.parent)
            # Dask runs a task again when the worker that holds its result dies.
            if (before := shard.scored()) is not None:
                return before
            return _write(shard, _loaded(shard.settings, about))
    except ShardError:
        raise
    except Exception as error:
        raise ShardError(f"{_here()} failed ({type(error).__name__}: {error})") from error


def _write(shard: Shard, model: LIQE) -> int:
    import numpy as np

    from liqe_core.commands.score_run import Scores, score_all
    from liqe_core.data.journal import Journal
    from liqe_core.images import PictureError, is_url

    read, stamps, scores = shard.settings.reader(), shard.stamps(), Scores()

    def read_file(picture: str) -> Image.Image:
        file = shard.file(picture)
        try:
            return read(file)
        except PictureError as error:  # told by the name that was given, as a run of one process does
            told = str(error) if is_url(picture) else str(error).replace(file, str(Path(picture)))
            raise PictureError(told) from error

    score_all(
        model,
        shard.pictures,
        read_file,
        shard.settings.batch_size,
        scores,
        Journal(os.devnull, shard.folder),
        precision=shard.settings.precision,
    )
    table = scores.table(shard.pictures, model, escaped, distributions=True)
    if "error" not in table:
        table["error"] = None
    table["size"], table["time"] = np.array(stamps, np.int64).reshape(-1, 2).T
    table["unseen"] = [
        socket.gethostname() if p in scores.errors and not shard.opens(p) else "" for p in shard.pictures
    ]
    _begun_with(shard.path.parent)  # a run that ended since has taken its folder away
    with atomic_path(shard.path) as part:
        table.to_parquet(part, index=False)
    return len(scores.entries)


@functools.lru_cache(maxsize=1)
def _loaded(settings: Settings, begun_with: str) -> LIQE:
    """The model, once a process.

    Args:
        begun_with: what the run says that it was begun with.
    """
    from liqe_core.commands.score_run import differing

    try:
        model = settings.model()
        about = settings.about(model)
    except (ValueError, OSError, RuntimeError) as error:
        raise ShardError(f"{_here()} cannot load the model: {error}") from error
    if others := differing(json.loads(begun_with), about):
        raise ShardError(
            f"{_here()} has another {', '.join(others)} than the process that started the run: give all "
            "workers the same packages and the same file of weights, or stop this one"
        )
    return model


def _begun_with(folder: Path) -> str:
    try:
        return (folder / ABOUT).read_text(encoding="utf-8")
    except OSError:
        raise ShardError(
            f"{_here()} does not see {folder}: start workers where the pictures and the table's folder have "
            "the same paths as for the process that starts the run"
        ) from None


def _here() -> str:
    return f"the worker on {socket.gethostname()} (process {os.getpid()})"


def _stamp(file: str) -> tuple[int, int]:
    try:
        stat = os.stat(file)
    except (OSError, ValueError):
        return -1, -1
    return stat.st_size, stat.st_mtime_ns
