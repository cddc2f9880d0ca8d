"""Several processes that work on one model together, or one, the usual case: who does what, and gathering it.

Every process computes its share of the joint probabilities. These are gathered, with their gradients, so that
each process sees the ranking loss over all pairs of the global batch. What starts the processes is
`liqe_core.training.distributed`.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """The processes that train together, and this one's place among them.

    Attributes:
        rank: 0..world-1; rank 0 leads: it alone writes files and shows progress.
        world: how many processes.
        device: where this one computes.
    """

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"):
        self.rank, self.world, self.device = rank, world, torch.device(device)

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
            `world`, since DistributedDataParallel will divide by it.
        """
        if self.world == 1:
            return part
        return _Gather.apply(part, self._sizes(count), self.rank)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.world == 1:
            return flag
        flags = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def agreed(self, value: object, what: str) -> None:
        """Make sure that a value is the same in every process.

        Raises:
            RuntimeError: it is not; says what, and each process's value.
        """
        if self.world == 1:
            return
        values: list[object] = [None] * self.world
        dist.all_gather_object(values, value)
        if any(other != values[0] for other in values):
            raise RuntimeError(
                f"the processes disagree about {what}: {values}; they must share one run folder"
            )

    def _sizes(self, count: int) -> list[int]:
        least, more = divmod(count, self.world)
        return [least + (rank < more) for rank in range(self.world)]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part: Tensor, sizes: list[int], rank: int) -> Tensor:
        start, size = sum(sizes[:rank]), sizes[rank]
        ctx.mine, ctx.shape, ctx.world = slice(start, start + size), part.shape, len(sizes)
        padded = part.new_zeros(max(sizes), *part.shape[1:])  # collectives want equal sizes
        padded[:size] = part[:size]
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        mine = gradient.new_zeros(ctx.shape)
        own = gradient[ctx.mine]
        mine[: len(own)] = own * ctx.world
        return mine, None, None
