"""Several processes that train one model together, started by torchrun; or one process, the usual case.

Every process draws the same global batch, cuts the crops of its share, and computes its share of the joint
probabilities, which `Ranks.gather` makes whole in each; DistributedDataParallel then averages the gradients.
The step is the one that a single process would take with the whole batch, to rounding.
"""

from __future__ import annotations

import atexit
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from liqe_core.evaluation.ranks import Ranks


def together(device: str = "auto") -> Ranks:
    """The processes that torchrun started, or this one alone.

    A group that is made here lasts as long as the process: a script may train several times.

    Args:
        device: ``auto`` is the GPU of this process's local rank if there is one, else the CPU.

    Raises:
        ValueError: no such device; says which there are.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = torch_device(device, local)
    if not dist.is_initialized() and "RANK" not in os.environ:
        return Ranks(device=chosen)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Ranks(dist.get_rank(), dist.get_world_size(), chosen)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def torch_device(name: str, local_rank: int = 0) -> torch.device:
    """A device by name; ``auto`` and ``cuda`` are the GPU number `local_rank` (``auto``: where there is one).

    Raises:
        ValueError: it is not there, or torch does not know the word.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}; give auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda":
        index = local_rank if device.index is None else device.index
        if index >= gpus:
            raise ValueError(f"device is {name!r}, but there are {gpus} GPUs here; give auto or cpu")
        device = torch.device("cuda", index)
    return device


def wrapped(model: nn.Module, ranks: Ranks) -> nn.Module:
    """The model to call in a training step: itself, or DistributedDataParallel around it."""
    if ranks.world == 1 or not any(p.requires_grad for p in model.parameters()):
        return model
    devices = [ranks.device.index] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
