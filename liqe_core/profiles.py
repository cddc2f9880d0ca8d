"""Named settings. A profile is plain values; every one can be overridden from a notebook parameter.

``smoke`` runs in seconds and means nothing, for tests; ``mini`` trains a small model from nothing on
photographs that every installation has; ``open`` trains CLIP on BIQ2021, which anyone may download; ``paper``
is the published protocol over six data sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from liqe_core.prompts import VARIANTS
from liqe_core.weighting import WEIGHTINGS

SCHEDULES = ("public", "cosine")


@dataclasses.dataclass(frozen=True)
class Profile:
    """The settings of a training run.

    Attributes:
        architecture, pretrained: as `LIQE.from_clip` takes them.
        batch_sizes: pictures of each data set in a step, by the set's name.
        variant: which tasks, one of `prompts.VARIANTS`.
        epochs, steps: an epoch is that many optimiser steps.
        crops: windows a picture in training; 15 are used in testing.
        learning_rate, weight_decay: of AdamW.
        schedule: ``public`` is CosineAnnealingLR(T_max=5) an epoch, restarted; ``cosine`` falls to zero over
            the whole run, a step at a time, after `warmup_steps` of linear rise.
        warmup_steps: see `schedule`.
        batch_norm: ``frozen`` keeps the statistics that the weights came with: the public code trains in
            evaluation mode, which for CLIP's transformers is the same. ``learned`` is what a batch norm that
            starts from random weights needs.
        weighting: ``dwa`` or ``equal``. temperature: of dwa.
        session: 1..10, which split. seed: initial weights, order of data, crops.
        validate_every: epochs between validations.
    """

    name: str
    architecture: str
    pretrained: str | None
    batch_sizes: Mapping[str, int]
    variant: str = VARIANTS[-1]
    epochs: int = 80
    steps: int = 200
    crops: int = 3
    learning_rate: float = 5e-6
    weight_decay: float = 1e-3
    schedule: str = "public"
    warmup_steps: int = 0
    batch_norm: str = "frozen"
    weighting: str = "dwa"
    temperature: float = 2.0
    session: int = 1
    seed: int = 20200626
    validate_every: int = 1

    def __post_init__(self):
        for field, choices in (
            ("variant", VARIANTS),
            ("schedule", SCHEDULES),
            ("batch_norm", ("frozen", "learned")),
            ("weighting", tuple(WEIGHTINGS)),
        ):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"{self.name}: {field} is {getattr(self, field)!r}; choose one of {', '.join(choices)}"
                )
        for field, least in (
            ("epochs", 1),
            ("steps", 1),
            ("crops", 1),
            ("warmup_steps", 0),
            ("weight_decay", 0),
            ("seed", 0),
            ("validate_every", 1),
        ):
            if not getattr(self, field) >= least:
                raise ValueError(
                    f"{self.name}: {field} is {getattr(self, field)!r}; give a number from {least}"
                )
        if not self.learning_rate > 0:
            raise ValueError(f"{self.name}: learning_rate is {self.learning_rate!r}; give a positive number")
        if self.session not in range(1, 11):
            raise ValueError(f"{self.name}: session is {self.session!r}; choose from 1 to 10")
        if not self.batch_sizes:
            raise ValueError(f"{self.name}: batch_sizes is empty; name at least one data set")

    def override(self, **settings) -> Profile:
        """The same profile with some settings changed; None leaves one as it is.

        Raises:
            ValueError: an unknown setting or a value that cannot be.
        """
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := sorted(set(settings) - known):
            raise ValueError(f"unknown setting {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
        return dataclasses.replace(self, **{k: v for k, v in settings.items() if v is not None})

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dataclasses.asdict(self) | {"batch_sizes": dict(self.batch_sizes)}


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            architecture="LIQE-smoke",
            pretrained=None,
            batch_sizes={"mini": 6},
            epochs=3,
            steps=3,
            learning_rate=1e-3,
            schedule="cosine",
        ),
        Profile(
            name="mini",
            architecture="LIQE-mini",
            pretrained=None,
            batch_sizes={"mini": 48},
            epochs=8,
            steps=60,
            learning_rate=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=40,
        ),
        Profile(
            name="open",
            architecture="ViT-B-32-quickgelu",
            pretrained="openai",
            batch_sizes={"biq2021": 16},
            variant="quality",
            epochs=20,
        ),
        Profile(
            name="paper",
            architecture="ViT-B-32-quickgelu",
            pretrained="openai",
            batch_sizes={"live": 4, "csiq": 4, "bid": 4, "clive": 4, "koniq10k": 16, "kadid10k": 16},
        ),
    )
}


def profile(name: str, **settings) -> Profile:
    """A profile by name, with overrides; see `Profile.override`.

    Raises:
        ValueError: no such profile or setting.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name].override(**settings)
