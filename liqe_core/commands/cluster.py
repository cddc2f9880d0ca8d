"""Dask workers: those of a scheduler that is named, or else some on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

#: Seconds to wait for a scheduler.
PATIENCE = 20


@contextlib.contextmanager
def dask_client(
    scheduler: str | None = None, workers: int | None = None, dashboard: str = ":8787"
) -> Iterator[Client]:
    """The workers to run on: those of the scheduler, or some that are made for the block.

    Args:
        scheduler: its address, ``tcp://host:8786``.
        workers: without a scheduler, how many to make on this machine; default: as many as there are GPUs,
            which then have one each, or else cores.
        dashboard: where to serve theirs; where that port is taken, another is.

    Raises:
        ValueError: there is no scheduler at that address, or Dask is not installed.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ValueError("Dask's workers need the package distributed: pip install distributed")
    if not scheduler:
        with _local_workers(workers, dashboard) as client:
            yield client
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler at {scheduler} ({error}); start one with `dask scheduler`, or leave "
            "--scheduler out to run on this machine"
        ) from None
    # That the scheduler has gone is told by who waits for it, without Dask's traceback.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    with client:
        yield client


@contextlib.contextmanager
def _local_workers(workers: int | None, dashboard: str) -> Iterator[Client]:
    """A cluster on this machine: a process a GPU, or else a core, each of them with one thread."""
    import torch
    from distributed import Client, LocalCluster, WorkerPlugin

    count = torch.cuda.device_count()
    gpus = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")[:count]

    class OneGpu(WorkerPlugin):
        """What a worker starts sees one GPU, also after the worker was started again."""

        def setup(self, worker):
            if gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name) % len(gpus)]

    with (
        LocalCluster(
            n_workers=workers or len(gpus) or os.cpu_count(),
            threads_per_worker=1,
            # What takes memory are the notebooks' own processes, which Dask does not see.
            memory_limit=0,
            dashboard_address=dashboard,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(OneGpu())
        yield client
