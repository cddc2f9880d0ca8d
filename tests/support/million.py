"""``liqe score --scheduler`` over many names, and what the scheduler and the driver hold of them in memory.

Everything is what it is for real pictures, in processes of their own, but for the scores: workers draw them
at random, so that a million takes minutes, and no picture need be there.

    python tests/support/million.py [NAMES [WORKERS]]
"""

from __future__ import annotations

import contextlib
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: As long as names in real folders are: 56 characters.
NAME = "/data/photographs/2026/november/26/camera-{:02}/{:011}.jpg"


def rehearse(names: int, folder: Path, workers: int = 1) -> dict[str, float]:
    """Run the command over so many names.

    Args:
        folder: an empty one.
        workers: processes.

    Returns:
        `rows` of the table, and `right`, how many of them have the name and the score that are due; `most
        tasks` that the scheduler held whenever it was asked; `seconds`; and, in MB, resident memory:
        `scheduler before` and `scheduler`, its peak, and `driver`, its peak.
    """
    import cloudpickle
    from distributed import Client, SubprocessCluster
    from support.models import of_twelve_prompts

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Dask's processes need not find this module
    of_twelve_prompts().save(folder / "model")
    with (folder / "names").open("w") as file:
        file.writelines(NAME.format(i % 16, i) + "\n" for i in range(names))
    table, log = folder / "table.csv", folder / "driver.log"
    command = [sys.executable, "-m", "liqe_core", "score", "--from-file", str(folder / "names")]
    command += ["--checkpoint", str(folder / "model"), "--csv", str(table), "--scheduler"]
    addresses = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    options = {
        "worker_class": "distributed.Worker",
        "threads_per_worker": 1,
        "worker_kwargs": {"memory_limit": 0},
    }
    with SubprocessCluster(n_workers=workers, **addresses, **options) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers, timeout=120)
        client.run(_draw_scores)
        measured = {"scheduler before": client.run_on_scheduler(_memory, "VmRSS"), "most tasks": 0}
        began = time.monotonic()
        with log.open("w") as file:
            driver = subprocess.Popen([*command, cluster.scheduler_address], stdout=file, stderr=file)
        while driver.poll() is None:
            with contextlib.suppress(OSError, IndexError):  # it has just ended
                measured["driver"] = _memory("VmHWM", driver.pid)
            measured["most tasks"] = max(measured["most tasks"], client.run_on_scheduler(_tasks))
            time.sleep(0.02 if names < 100_000 else 0.5)
        measured["seconds"] = time.monotonic() - began
        measured["scheduler"] = client.run_on_scheduler(_memory, "VmHWM")
    if driver.returncode:
        raise RuntimeError(log.read_text())
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


def _memory(line: str, process: int | str = "self") -> float:
    """Resident memory of a process in MB: now (``VmRSS``), or at its peak (``VmHWM``)."""
    status = Path(f"/proc/{process}/status").read_text()
    return round(int(status.split(f"{line}:")[1].split()[0]) * 1024 / 1e6, 1)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # where pytest finds `support`
    with tempfile.TemporaryDirectory() as made:
        numbers = [int(number) for number in sys.argv[1:]] or [1_000_000]
        for name, number in rehearse(numbers[0], Path(made), *numbers[1:]).items():
            print(f"{name}: {number}")
