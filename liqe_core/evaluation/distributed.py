"""Several processes that work on one model, started by torchrun; or one process, the usual case.

Every process draws the same global batch, cuts the crops of its share, and computes its share of the joint
probabilities. `Ranks.gather` makes these whole in each, with their gradients, so that each process sees the
ranking loss over all pairs; DistributedDataParallel then averages the gradients. The step is the one that a
single process would take with the whole batch, to rounding.
"""

from __future__ import annotations

import atexit
import dataclasses
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The processes that train together, and this one's place among them.

    Attributes:
        rank: 0..world_size - 1; rank 0 leads: it alone writes files and shows progress.
        world_size: how many processes.
        device: where this one computes.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` things: contiguous, sizes differing by one at most, maybe empty."""
        start = sum(self._sizes(count)[: self.rank])
        return slice(start, start + self._sizes(count)[self.rank])

    def gather(self, part: Tensor, count: int) -> Tensor:
        """All processes' parts in order, differentiable.

        Args:
            part: (n, ...), the share of this process first; rows after it are dropped.
            count: how many rows there are over all processes.

        Returns:
            (count, ...) on every process. In the backward pass each gets the gradient of its own rows times
            `world_size`, since DistributedDataParallel will divide by it.
        """
        if self.world_size == 1:
            return part
        sizes = self._sizes(count)
        own = part[: sizes[self.rank]]
        padded = part.new_zeros(max(sizes), *part.shape[1:])  # collectives want equal sizes
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        parts = [gathered[:size] for gathered, size in zip(parts, sizes, strict=True)]
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * self.world_size)
        parts[self.rank] = own
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world_size > 1:
            dist.barrier()

    def agreed(self, value: object, subject: str) -> None:
        """Make sure that a value is the same in every process.

        Raises:
            RuntimeError: it is not; says what, and each process's value.
        """
        if self.world_size == 1:
            return
        values: list[object] = [None] * self.world_size
        dist.all_gather_object(values, value)
        if any(answer != values[0] for answer in values):
            problem = f"the processes disagree about {subject}: {values}"
            raise RuntimeError(f"{problem}; they must share one run folder")

    def _sizes(self, count: int) -> list[int]:
        least, more = divmod(count, self.world_size)
        return [least + (rank < more) for rank in range(self.world_size)]


#: This process alone.
ALONE = Ranks()


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
    gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)
        if device.type != "cuda":
            torch.empty(0, device=device)  # mps, say, where there is none
    except (RuntimeError, AssertionError):
        raise ValueError(f"device is {name!r}: none here; give auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and device.index >= gpus:
        raise ValueError(f"device is {name!r}, but there are {gpus} GPUs here; give auto or cpu")
    return device


def wrapped(model: nn.Module, ranks: Ranks) -> nn.Module:
    """The model to call in a training step: itself, or DistributedDataParallel around it."""
    if ranks.world_size == 1 or not any(p.requires_grad for p in model.parameters()):
        return model
    devices = [ranks.device.index] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
