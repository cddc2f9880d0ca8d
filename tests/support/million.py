"""``liqe score --scheduler`` over many names, and what the scheduler and the driver hold of them in memory.

Everything is what it is for real pictures, in processes of their own, but for the scores: workers draw them
at random, so that a million takes minutes, and no picture need be there.

    python tests/support/million.py [NAMES [WORKERS]]
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: As long as names in real folders are: 56 characters.
NAME = "/data/photographs/2026/november/26/camera-{:02}/{:011}.jpg"


def rehearse(names: int, folder: Path, workers: int = 1) -> dict[str, float]:
    """Run the command over so many names.

    Args:
        folder: an empty one.
        workers: processes.

    Returns:
        `rows` of the table, and `right`, how many of them have the name and the score that are due; `shards`
        seen while it ran; `most tasks` that the scheduler held whenever it was asked; `seconds`; and, in MB,
        resident memory: `scheduler before` and `scheduler`, its peak; `driver before` the first shard,
        `driver scoring`, its peak while shards were still missing, and `driver`, its peak at all.
    """
    from distributed import Client
    from support.models import of_twelve_prompts  # here: the scheduler imports this module, for `_tasks`

    of_twelve_prompts().save(folder / "model")
    with (folder / "names").open("w") as file:
        file.writelines(NAME.format(i % 16, i) + "\n" for i in range(names))
    shards, table = folder / "table.csv.shards", folder / "table.csv"
    command = ["-m", "liqe_core", "score", "--from-file", str(folder / "names"), "--csv", str(table)]
    with _dask(folder, workers) as (scheduler, address), Client(address) as client:
        client.wait_for_workers(workers, timeout=120)
        client.run(_draw_scores)
        measured = {"scheduler before": _memory(scheduler, "VmRSS"), "most tasks": 0, "shards": 0}
        began = time.monotonic()
        driver = _start(
            *command, "--checkpoint", str(folder / "model"), "--scheduler", address, log=folder / "driver.log"
        )
        while driver.poll() is None:
            with contextlib.suppress(OSError, IndexError):  # it has just ended
                measured["driver"] = _memory(driver, "VmHWM")
                if not (shards / "about.json").exists():
                    measured["driver before"] = measured["driver"]
                elif not table.exists() and (done := len(list(shards.glob("*.jsonl")))):
                    if done < -(-names // 256):
                        measured["driver scoring"] = measured["driver"]
                    measured["shards"] = max(measured["shards"], done)
            measured["most tasks"] = max(measured["most tasks"], client.run_on_scheduler(_tasks))
            time.sleep(0.02 if names < 100_000 else 0.5)
        measured["seconds"] = time.monotonic() - began
        measured["scheduler"] = _memory(scheduler, "VmHWM")
    if driver.returncode:
        raise RuntimeError((folder / "driver.log").read_text())
    with table.open(newline="") as file:
        rows = [(row["image"], float(row["quality"])) for row in csv.DictReader(file)]
    measured["rows"] = len(rows)
    measured["right"] = sum(
        name == NAME.format(i % 16, i) and abs(quality - _due(name)) < 1e-6
        for i, (name, quality) in enumerate(rows)
    )
    return measured


def _due(name: str) -> float:
    """The quality of a picture that is not there."""
    return 1 + int(name[-10:-4]) % 2000 / 1000


def _draw_scores() -> None:
    """In a worker: what takes the time and the pictures is left out."""
    from liqe_core.commands import score_engine

    def score_shards(model, shards):
        import numpy as np

        rng = np.random.default_rng(0)
        axes = [len(model.grid.names(axis)) for axis in model.grid.axes]
        for shard in shards:
            rows = [
                {
                    "image": name,
                    "quality": _due(name),
                    "words": np.concatenate([rng.dirichlet(np.ones(n)) for n in axes]).tolist(),
                    "error": None,
                    "stamp": shard.stamp(name),
                    "unseen": "",
                }
                for name in shard.images
            ]
            yield shard, rows

    score_engine.score_shards = score_shards


def _tasks(dask_scheduler) -> int:
    return len(dask_scheduler.tasks)


@contextlib.contextmanager
def _dask(folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen, str]]:
    """A scheduler and workers as processes; gives the scheduler's, and its address."""
    file = folder / "scheduler.json"
    address_file = ["--scheduler-file", str(file)]
    scheduler = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    log = folder / "dask.log"
    processes = [_start("-m", "distributed.cli.dask_scheduler", *address_file, *scheduler, log=log)]
    try:
        address = ""
        while not address:
            if processes[0].poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
            with contextlib.suppress(OSError, ValueError):  # not yet, or not all of it
                address = json.loads(file.read_text())["address"]
        worker = [*address_file, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        processes += [_start("-m", "distributed.cli.dask_worker", *worker, log=log) for _ in range(workers)]
        yield processes[0], address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _start(*arguments: str, log: Path) -> subprocess.Popen:
    # What is sent to them is of this module.
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
        )


def _memory(process: subprocess.Popen, line: str) -> float:
    """Resident memory of a process in MB: now (``VmRSS``), or at its peak (``VmHWM``)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return round(int(status.split(f"{line}:")[1].split()[0]) * 1024 / 1e6, 1)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # where pytest finds `support`
    with tempfile.TemporaryDirectory() as made:
        numbers = [int(number) for number in sys.argv[1:]] or [1_000_000]
        for name, number in rehearse(numbers[0], Path(made), *numbers[1:]).items():
            print(f"{name}: {number}")
