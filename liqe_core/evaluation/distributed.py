"""Training and evaluation in one process (the usual case) or in several, started by torchrun.

Every process draws the same global batch, and computes the crops and joint probabilities of its share.
`Ranks.gather` combines the joint probabilities in each process, with their gradients, so that the ranking
loss covers all pairs. DistributedDataParallel then averages the gradients. Up to rounding, the step equals
that of a single process with the whole batch.
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
    """The group of processes, and the position of this process in it.

    Attributes:
        rank: 0..world_size - 1. Only the leader, rank 0, writes files and shows progress.
        world_size: number of processes.
        device: device of this process.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Whether this process is the leader, which writes files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return the contiguous share of `count` items for this process.

        The sizes of the shares differ by at most one. A share can be empty.
        """
        start = sum(self._sizes(count)[: self.rank])
        return slice(start, start + self._sizes(count)[self.rank])

    def gather(self, part: Tensor, count: int) -> Tensor:
        """Concatenate the shares of all processes in order; differentiable.

        Args:
            part: (n, ...), the share of this process first. Further rows are dropped.
            count: total number of rows over all processes.

        Returns:
            (count, ...) in every process. In the backward pass, a process gets the gradient of its own rows
            times `world_size`, because DistributedDataParallel divides by it.
        """
        if self.world_size == 1:
            return part
        sizes = self._sizes(count)
        own = part[: sizes[self.rank]]
        padded = part.new_zeros(max(sizes), *part.shape[1:])  # collectives need equal sizes
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        parts = [gathered[:size] for gathered, size in zip(parts, sizes, strict=True)]
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * self.world_size)
        parts[self.rank] = own
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is True in any process."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Wait until all processes reach this call."""
        if self.world_size > 1:
            dist.barrier()

    def agreed(self, value: object, subject: str) -> None:
        """Check that a value is equal in all processes.

        Args:
            value: the value in this process.
            subject: name of the value in the error message.

        Raises:
            RuntimeError: if the values differ. The message lists them.
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


#: A single process.
ALONE = Ranks()


def together(device: str = "auto") -> Ranks:
    """Join the processes that torchrun started, or return a single process.

    A group that is created here lasts until the process ends, so a script can train several times.

    Args:
        device: ``auto`` for the GPU of this process's local rank, or the CPU on a machine without GPUs;
            otherwise a name for torch.

    Raises:
        ValueError: if the device does not exist.
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
    """Return a device by name.

    ``cuda`` is GPU number `local_rank`. ``auto`` is ``cuda`` on a machine with GPUs, otherwise ``cpu``.

    Raises:
        ValueError: if the device does not exist, or torch does not know the name.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)
        if device.type != "cuda":
            torch.empty(0, device=device)  # raises for a missing device, for example mps
    except (RuntimeError, AssertionError):
        raise ValueError(f"device {name!r} does not exist; give auto, cpu{', cuda' * bool(gpus)}") from None
    if device.type == "cuda" and device.index >= gpus:
        raise ValueError(f"device {name!r} does not exist, this machine has {gpus} GPUs; give auto or cpu")
    return device


def wrapped(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Wrap a model in DistributedDataParallel if several processes train it."""
    if ranks.world_size == 1 or not any(p.requires_grad for p in model.parameters()):
        return model
    devices = [ranks.device.index] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
