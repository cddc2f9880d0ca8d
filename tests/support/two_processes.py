"""What each of two processes does for test_distributed: torchrun -m support.two_processes PICTURES FOLDER."""

import sys
import time
from pathlib import Path

import torch
from support.training import settings, small_set

from liqe_core import LIQE
from liqe_core.evaluation.distributed import together
from liqe_core.training.batches import batches_ahead
from liqe_core.training.loop import Run, fit


def gradients(run: Run, batch) -> dict[str, torch.Tensor]:
    """Of the first step, at a learning rate of zero."""
    losses, norm = run.take_step(batch, {"quality": 1.0, "scene": 0.5, "distortion": 2.0}, 0.0)
    found = {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
    return {**found, "losses": torch.tensor(list(losses.values())), "norm": torch.tensor(norm)}


def sets(root: Path) -> list:
    """Two data sets, so that the parts of the batch cut across them."""
    return [small_set(root, "one"), small_set(root, "other")]


#: Pictures of the two sets in a batch, by test: shares of 3 and 2, of 3 and 3, and one of them empty.
BATCHES = {"odd": {"one": 3, "other": 2}, "even": {"one": 2, "other": 4}, "last": {"one": 11, "other": 11}}
FITTED = {"batch_sizes": BATCHES["odd"], "epochs": 2, "steps": 2, "save_seconds": 0}


def save_slowly(*args, save=LIQE.save, **kwargs) -> None:
    """As on a slow disk: the other process comes to the test while the leader still writes checkpoints."""
    time.sleep(0.5)
    save(*args, **kwargs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    pictures, folder = sets(Path(sys.argv[1])), Path(sys.argv[2])
    ranks = together("cpu")
    assert ranks.world == 2
    for name, sizes in BATCHES.items():
        for extra in ({}, {"gradient_checkpointing": True, "precision": "bfloat16"}):
            run = Run(settings(batch_sizes=sizes, **extra), pictures, folder, ranks)
            # with batches of 11, the second one of the 12 pictures has one of each set
            (batch,) = batches_ahead(run.batches, 0, 1, 2, ranks)
            found = gradients(run, batch) | {"share": torch.tensor(len(batch.crops))}
            torch.save(found, folder / f"{name}{'_mixed' if extra else ''}_{ranks.rank}.pt")
    assert ranks.any(ranks.rank == 1) and not ranks.any(False)
    one = run.batches.batch(0, 0, lambda n: slice(5, 5))
    assert len(one.crops) == 1  # an empty share still has one picture to compute, which does not count
    joint = ranks.gather(torch.full((3,), float(ranks.rank)), 1)
    assert joint.tolist() == [0.0]
    try:
        ranks.agreed(ranks.rank, "their rank")
    except RuntimeError as error:
        assert "disagree about their rank: [0, 1]" in str(error)
    results = fit(settings(**FITTED), pictures, folder / "run", progress=False)
    results.to_csv(folder / f"results_{ranks.rank}.csv", index=False)
    LIQE.save = save_slowly
    fit(settings(**FITTED | {"epochs": 1}), pictures, folder / "slow", progress=False)
