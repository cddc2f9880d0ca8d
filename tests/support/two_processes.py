"""What each of two processes does for test_distributed, as jobs of `support.interrupting`."""

import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from support.interrupting import Job
from support.training import settings, small_set

from liqe_core import LIQE
from liqe_core.evaluation.distributed import together
from liqe_core.intake.stopping import StopRequested
from liqe_core.training import loop
from liqe_core.training.batches import batches_ahead
from liqe_core.training.loop import Run, fit


def gradients(run: Run, batch) -> dict[str, torch.Tensor]:
    """Of the first step, at a learning rate of zero."""
    losses, norm = run.take_step(batch, {"quality": 1.0, "scene": 0.5, "distortion": 2.0}, 0.0)
    found = {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
    return {**found, "losses": torch.tensor(list(losses.values())), "norm": torch.tensor(norm)}


def sets(root: Path) -> list:
    """Two datasets, so that the parts of the batch cut across them."""
    return [small_set(root, "one"), small_set(root, "other")]


#: Images of the two sets in a batch, by test: shares of 3 and 2, of 3 and 3, and one of them empty.
BATCHES = {"odd": {"one": 3, "other": 2}, "even": {"one": 2, "other": 4}, "last": {"one": 11, "other": 11}}
FITTED = {"batch_sizes": BATCHES["odd"], "epochs": 2, "steps": 2, "save_seconds": 0}


def _save_slowly(*args, save=LIQE.save, **kwargs) -> None:
    """As on a slow disk: the other process comes to the test while the leader still writes checkpoints."""
    time.sleep(0.5)
    save(*args, **kwargs)


def _signalled(rank: int, profile, epoch: int, step: int, rate=loop.learning_rate) -> float:
    """The learning rate; at the second step one process gets a signal, of which the other is to know."""
    if rank == 1 and (epoch, step) == (0, 1):
        os.kill(os.getpid(), signal.SIGTERM)
    return rate(profile, epoch, step)


def run_two(root: Path, folder: Path) -> None:
    """Run `_take_steps` in two processes, connected by the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    jobs = [
        Job(_take_steps, (root, folder), folder / "log", {**shared, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    processes = [job.start() for job in jobs]
    for process in processes:
        process.join(150)
    assert [process.exitcode for process in processes] == [0, 0], (folder / "log").read_text()[-3000:]


def _take_steps(root: Path, folder: Path) -> None:
    images = sets(root)
    ranks = together("cpu")
    assert ranks.world_size == 2
    for name, sizes in BATCHES.items():
        for extra in ({}, {"gradient_checkpointing": True, "precision": "bfloat16"}):
            run = Run(settings(batch_sizes=sizes, **extra), images, folder, ranks)
            # with batches of 11, the second one of the 12 images has one of each set
            (batch,) = batches_ahead(run.batches, 0, 1, 2, ranks)
            found = gradients(run, batch) | {"share": torch.tensor(len(batch.crops))}
            torch.save(found, folder / f"{name}{'_mixed' if extra else ''}_{ranks.rank}.pt")
    assert ranks.any(ranks.rank == 1) and not ranks.any(False)
    empty_share = run.batches.batch(0, 0, lambda n: slice(5, 5))
    assert len(empty_share.crops) == 1  # it still has one image to compute, which does not count
    joint = ranks.gather(torch.full((3,), float(ranks.rank)), 1)
    assert joint.tolist() == [0.0]
    with pytest.raises(RuntimeError, match=r"their rank: \[0, 1\]"):
        ranks.agreed(ranks.rank, "their rank")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopRequested, match="2 steps") as stopped:
        patch.setattr(loop, "learning_rate", partial(_signalled, ranks.rank))
        fit(settings(**FITTED), images, folder / "run", progress=False)
    assert stopped.value.signal == signal.SIGTERM
    results = fit(settings(**FITTED), images, folder / "run", progress=False)
    results.to_csv(folder / f"results_{ranks.rank}.csv", index=False)
    LIQE.save = _save_slowly
    fit(settings(**FITTED | {"epochs": 1}), images, folder / "slow", progress=False)
