"""The grid of a sweep: which runs it is made of."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from liqe_core.prompts import VARIANTS
from liqe_core.training.profiles import Profile, profile


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        settings: of its training.
        parameters: the notebook's, but for the folders.
    """

    settings: Profile
    parameters: Mapping[str, object]

    def run_folder(self, root: Path) -> Path:
        """Where its training is kept, shared with every notebook that reads run folders."""
        from liqe_core.training.runs import run_folder  # which imports torch

        return run_folder(self.settings, root)


def cells(
    profile_name: str,
    sessions: Sequence[int] = (1,),
    variants: Sequence[str] = VARIANTS,
    seeds: Sequence[int] = (1, 2, 3),
    changes: Mapping[str, object] | None = None,
) -> list[Cell]:
    """The grid, in the order session, seed, variant: variants of one seed are complete as early as can be.

    Args:
        seeds: as the notebook's parameter: session k of seed s trains from seed s + k - 1.
        changes: other settings of the profile, for all cells.

    Raises:
        ValueError: an unknown profile or setting, or one that cannot be.
    """
    grid = []
    for session, seed, variant in itertools.product(sessions, seeds, variants):
        changed = dict(changes or {})
        settings = profile(
            profile_name, **{**changed, "variant": variant, "session": session, "seed": seed + session - 1}
        )
        parameters = {"profile": profile_name, "sessions": [session], "seed": seed, "variant": variant}
        grid.append(Cell(settings, parameters | {"changes": changed}))
    return grid
