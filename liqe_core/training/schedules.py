"""The learning rate as a function of where the run is, so that there is no scheduler to save and restore."""

from __future__ import annotations

import math

from liqe_core.training.profiles import Profile


def learning_rate(settings: Profile, epoch: int, step: int) -> float:
    """The rate at a step, a function of where the run is and of nothing else.

    ``public``: CosineAnnealingLR(T_max=5) is stepped once an epoch, and once more where an epoch would start
    at rate 0; so position 5, 15, 25, ... of its wave is never trained at.
    """
    if settings.schedule == "public":
        position = 0
        for _ in range(epoch):
            position += 1
            if position % 10 == 5:
                position += 1
        return settings.learning_rate * (1 + math.cos(math.pi * position / 5)) / 2
    done, total = epoch * settings.steps + step, settings.epochs * settings.steps
    if done < settings.warmup_steps:
        return settings.learning_rate * (done + 1) / settings.warmup_steps
    part = (done - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    return settings.learning_rate * (1 + math.cos(math.pi * part)) / 2
