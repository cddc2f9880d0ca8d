"""A long list of pictures over Dask workers: shard by shard, each a Parquet file that is there whole or not.

The list is cut into shards of whole batches, so that a batch holds the same pictures as in a run of one
process. A worker is told the names of one shard, scores them as such a run does, and writes its table into a
folder beside the table that is asked for. Whoever started the run sends out a few shards a worker at a time
and puts the tables together at the end: neither the scheduler nor a worker ever hears of all names.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from liqe_core.commands.score_run import refuse_other
from liqe_core.commands.score_settings import Settings, device
from liqe_core.commands.shard import ABOUT, STAMPS, Shard, ShardError, score_shard
from liqe_core.files import unescaped, write_json
from liqe_core.intake.progress import tqdm

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client, Future

    from liqe_core.model import LIQE

#: Pictures of a shard, at most: what a worker that is killed loses.
SHARD = 256

#: Shards that are out at a time, for each worker: one that it scores, and the next.
AHEAD = 2


class ShardedScores:
    """A run over workers, and what is known of it; see `Scores`, whose place it takes when it is done.

    Args:
        folder: where shards' tables are kept.
        pictures: paths as they were given; one that is there twice is scored once.
        settings: with a device that workers have: not ``auto``; see `device_of`.
        about: everything that scores depend on beside the pictures; see `Settings.about`.

    Raises:
        OtherRunError: the folder is another run's.
    """

    def __init__(self, folder: Path, pictures: Sequence[str], settings: Settings, about: dict[str, Any]):
        self.folder = folder.absolute()
        self.pictures = list(dict.fromkeys(pictures))
        self.settings = settings.elsewhere()
        self.size = max(1, SHARD // settings.batch_size) * settings.batch_size
        self.errors: dict[str, str] = {}
        #: Pictures that a worker could not open, though they are here.
        self.unseen = 0
        self._scored = 0
        if (begun := self.folder / ABOUT).exists():
            refuse_other(folder, json.loads(begun.read_text(encoding="utf-8")), about)
        write_json(begun, about)

    def shards(self) -> Iterator[Shard]:
        """All of them, in order."""
        here = Path.cwd()
        for number, start in enumerate(range(0, len(self.pictures), self.size)):
            pictures = tuple(self.pictures[start : start + self.size])
            yield Shard(self.folder / f"{number:06}.parquet", pictures, here, self.settings)

    def run(
        self,
        client: Client,
        check: Callable[[], None] = lambda: None,
        progress: bool = False,
        work: Callable[[Shard], int] = score_shard,
    ) -> None:
        """Have every shard scored that is not there yet.

        A shard whose worker dies goes to another. One that Dask gives up, since four workers died of it, does
        not keep the others from being scored, and is told at the end.

        Args:
            check: called after each shard; what it raises ends the run.
            progress: show a bar.
            work: done for each shard, on a worker.

        Raises:
            ShardError: a worker refuses; workers died of a shard; the scheduler has gone.
        """
        from distributed import KilledWorker, as_completed

        out, name, fatal = as_completed(), uuid.uuid4().hex, []
        sent: dict[Future, Shard] = {}
        with tqdm(total=len(self.pictures), disable=not progress, unit="picture") as bar:

            def to_do() -> Iterator[Shard]:
                for shard in self.shards():
                    check()
                    if (scored := shard.scored()) is None:
                        shard.path.unlink(missing_ok=True)
                        yield shard
                    else:
                        note(shard, scored)

            def note(shard: Shard, scored: int) -> None:
                self._scored += scored
                bar.update(len(shard.pictures))

            def send(shards: Iterator[Shard]) -> None:
                for _ in range(AHEAD * max(1, len(client.nthreads())) - len(sent)):
                    if (shard := next(shards, None)) is None:
                        return
                    # The scheduler keeps something of each kind of task for good: these are all of one.
                    key = (f"shard-{name}", int(shard.path.stem))
                    future = client.submit(work, shard, key=key, pure=False)
                    sent[future] = shard
                    out.add(future)

            try:
                send(waiting := to_do())
                for future in out:
                    shard = sent.pop(future)
                    error = _error(future)
                    if isinstance(error, KilledWorker):
                        fatal.append(shard)
                    elif error is not None:
                        raise error
                    else:
                        note(shard, future.result())
                    del future  # its result leaves the worker
                    check()
                    send(waiting)
            except OSError as error:
                if isinstance(error, ShardError) or client.status == "running":
                    raise
                raise _gone() from error
        if fatal:
            first, last = fatal[0].pictures[0], fatal[0].pictures[-1]
            raise ShardError(
                f"{len(fatal)} shards have each ended worker after worker; the first has {first} to "
                f"{last}: see the workers' own messages, whether memory ran out for one"
            )

    def count(self, pictures: Sequence[str]) -> int:
        """How many pictures have a score."""
        return min(self._scored, len(pictures))

    def table(
        self, pictures: Sequence[str], model: LIQE, name: Callable[[str], str], distributions: bool
    ) -> pd.DataFrame:
        """As `Scores.table`, of a run that is done; fills `errors` too."""
        import pandas as pd

        words = [f"{axis}={word}" for axis in model.grid.axes for word in model.grid.names(axis)]
        self.unseen, parts = 0, []
        for shard in self.shards():
            part = pd.read_parquet(shard.path)
            for i in np.flatnonzero(part["unseen"] != ""):
                if shard.opens(shard.pictures[i]):
                    self.unseen += 1
                    host, told = part.loc[i, "unseen"], part.loc[i, "error"]
                    part.loc[i, "error"] = f"{told}; it is here, and the worker on {host} cannot open it"
            parts.append(part.drop(columns=[*STAMPS, *([] if distributions else words)]))
        table = pd.concat(parts, ignore_index=True)
        if len(self.pictures) < len(pictures):
            where = {picture: i for i, picture in enumerate(self.pictures)}
            table = table.iloc[[where[picture] for picture in pictures]].reset_index(drop=True)
        bad = table["error"].notna()
        self._scored = int((~bad).sum())
        told = zip(table.loc[bad, "image"], table.loc[bad, "error"], strict=True)
        self.errors = {unescaped(image): unescaped(error) for image, error in told}
        return table if bad.any() else table.drop(columns="error")


def device_of(client: Client, name: str) -> str:
    """The device of every worker: ``auto`` is the fastest that all of them have, when that is the same.

    Raises:
        ValueError: workers differ.
    """
    if name != "auto":
        return name
    kinds = sorted(set(client.run(device, name).values()))
    if len(kinds) > 1:
        raise ValueError(f"--device auto: some workers have {' and some '.join(kinds)}; say which to use")
    return kinds[0] if kinds else "cpu"


def _error(future: Future) -> BaseException | None:
    """What a task that has ended failed with, in a sentence."""
    from distributed import KilledWorker

    try:
        error = future.exception()  # None, too, of one whose result is lost and computed again meanwhile
    except CancelledError:
        return _gone()
    if future.cancelled():
        return _gone()
    if error is None or isinstance(error, (ShardError, KilledWorker)):
        return error
    # It did not come as far as `score_shard`: another version of this package, or none.
    why = f"{type(error).__name__}: {error}"
    return ShardError(f"a worker does not know this task ({why}): give all workers the same packages")


def _gone() -> ShardError:
    return ShardError("the Dask scheduler has gone")
