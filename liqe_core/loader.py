"""Batches read ahead of the step that uses them, and brought to the GPU while it is still busy."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch

from liqe_core.datasets import Batch, TrainingBatches
from liqe_core.distributed import Ranks

#: Threads that cut crops (copying them lets go of the interpreter), each up to a batch ahead.
READERS = min(4, os.cpu_count() or 1)


def read_ahead(
    batches: TrainingBatches, epoch: int, first: int, stop: int, ranks: Ranks, readers: int = READERS
) -> Iterator[Batch]:
    """The batches of steps `first` to `stop` of an epoch, in order, on this process's device.

    On a GPU the crops go there from pinned memory on a stream of their own, so the copy overlaps the step
    before. The crops are those of this process's share, the labels those of the whole batch.
    """
    device = ranks.device
    side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def read(step: int) -> Batch:
        batch = batches.batch(epoch, step, ranks.share)
        if side is None:
            return batch.to(device)
        with torch.cuda.stream(side):
            moved = batch.pinned().to(device, non_blocking=True)
        side.synchronize()  # this thread waits, the one that trains does not
        return moved

    with ThreadPoolExecutor(readers) as pool:
        steps = iter(range(first, stop))
        ahead = deque(pool.submit(read, step) for step in islice(steps, readers + 1))
        try:
            while ahead:
                batch = ahead.popleft().result()
                if (step := next(steps, None)) is not None:
                    ahead.append(pool.submit(read, step))
                if side is not None:
                    batch.used_on(torch.cuda.current_stream(device))
                yield batch
        finally:
            for waiting in ahead:
                waiting.cancel()
