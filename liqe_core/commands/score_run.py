"""A run of scoring: any number of pictures, noted batch by batch, taken up where it was killed.

What a batch says of its pictures depends, in the last bits, on which pictures are in it together. So the
batches are laid over the list of pictures once and for all, a batch counts when all that was noted of it is
there, and one that does not is computed again whole: however often a run is broken off, its table has the
same bytes as that of a run that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from liqe_core.crops import scoring_crops
from liqe_core.data.journal import Journal
from liqe_core.images import PictureError
from liqe_core.intake.progress import tqdm
from liqe_core.prediction import expected_quality, frame, marginal
from liqe_core.scoring import joint_by_batch, with_names

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from PIL import Image
    from torch import Tensor

    from liqe_core.model import LIQE

#: Threads that read pictures while the model is busy.
READERS = 2


class OtherRunError(ValueError):
    """A journal of a run with other weights or settings; says which."""


@dataclasses.dataclass
class Scores:
    """What is known of the pictures of a run so far.

    Attributes:
        entries: by picture, what the journal has of it: ``quality``, a number, and ``marginals``, for each
            axis the probabilities of its words.
        errors: why a picture has no score.
    """

    entries: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    def count(self, pictures: Sequence[str]) -> int:
        """How many of them have a score."""
        return sum(picture in self.entries for picture in pictures)

    def table(
        self, pictures: Sequence[str], model: LIQE, name: Callable[[str], str], distributions: bool
    ) -> pd.DataFrame:
        """The table of those pictures about which something is known, in their order; see `prediction.frame`.

        Args:
            name: how names, and errors, which hold names, are written.
        """
        known = [p for p in pictures if p in self.entries or p in self.errors]
        axes = model.grid.axes
        width = {axis: len(model.grid.names(axis)) for axis in axes}
        quality = np.array([self.entries.get(p, {}).get("quality", np.nan) for p in known], np.float32)
        marginals = {axis: np.full((len(known), width[axis]), np.nan, np.float32) for axis in axes}
        for i, picture in enumerate(known):
            for axis, row in self.entries.get(picture, {}).get("marginals", {}).items():
                marginals[axis][i] = row
        errors = {i: name(self.errors[p]) for i, p in enumerate(known) if p in self.errors}
        return frame([name(p) for p in known], quality, marginals, model.grid, errors, distributions)


def take_up(journal: Journal, about: Mapping[str, Any]) -> Scores:
    """What the journal has of a run, for the same run to go on from.

    Args:
        about: everything that scores depend on beside the pictures, by the words to tell it with.

    Raises:
        ValueError: the file is no journal. OtherRunError: it is another run's.
    """
    current = journal.current()
    if journal.path.exists():
        refuse_other(journal.path, journal.about(), about)
    noted = Counter(tuple(entry["batch"]) for entry in current.values())
    # A kill in the middle of a write, or a picture that has changed since, leaves a part of a batch.
    whole = {
        file: entry for file, entry in current.items() if noted[tuple(entry["batch"])] == entry["batch"][1]
    }
    return Scores(whole)


def refuse_other(kept: Path, begun_with: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """What was kept of a run is of use to the same run alone.

    Raises:
        OtherRunError: it was begun with something else; says what.
    """
    if others := differing(begun_with, about):
        told = [f"{what} (--geometry, --enlarge-to)" if what == "geometry" else what for what in others]
        raise OtherRunError(
            f"{kept} has the scores of a run that was stopped, with another {', '.join(told)}; "
            "give the options that it was begun with, to go on; or --restart, to begin anew; or another name "
            "for the table"
        )


def differing(begun_with: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """What of the one is not so in the other, by its words."""
    return [what for what in about if begun_with.get(what) != about[what]]


def score_all(
    model: LIQE,
    pictures: Sequence[str],
    read: Callable[[str], Image.Image],
    batch_size: int,
    scores: Scores,
    journal: Journal,
    about: dict[str, Any] | None = None,
    check: Callable[[], None] = lambda: None,
    progress: bool = False,
    precision: str = "float32",
) -> None:
    """Score what is not known yet, and note it as it goes.

    Args:
        pictures: paths; one that is there twice is scored once.
        read: from a path to 8-bit RGB; raises `PictureError`.
        batch_size: pictures that go through the image tower together.
        scores: what is known; completed here, also when this ends early.
        about: what a new journal begins with.
        check: called after each batch; what it raises ends the run.
        progress: show a bar.
        precision: see `scoring.products_in`.

    Raises:
        OSError: the journal cannot be written.
    """
    unique = list(dict.fromkeys(pictures))
    batches = [unique[start : start + batch_size] for start in range(0, len(unique), batch_size)]
    stamps: dict[str, dict[str, Any]] = {}

    def crops_of(picture: str) -> Tensor | PictureError:
        try:
            with contextlib.suppress(OSError, ValueError):  # one that is not there is told by `read`
                stamps[picture] = journal.stamp(picture)  # before it is read: a later change shows
            return scoring_crops(read(picture), model.geometry, picture)
        except PictureError as error:
            return error

    to_do = []
    with tqdm(total=len(unique), disable=not progress, unit="picture") as bar, journal.writing(about) as note:
        for batch in batches:
            missing = [picture for picture in batch if picture not in scores.entries]
            if 0 < len(missing) < len(batch):
                # Scored but for these, which could not be read. If they still cannot, that is all of it.
                read_now = [(picture, crops_of(picture)) for picture in missing]
                bad = {picture: str(why) for picture, why in read_now if isinstance(why, PictureError)}
                if len(bad) == len(missing):
                    scores.errors |= bad
                    missing = []
            if missing:
                to_do.append(batch)
            else:
                bar.update(len(batch))
            check()
        with contextlib.closing(joint_by_batch(model, crops_of, to_do, READERS, precision)) as parts:
            for batch, (joint, errors) in zip(to_do, parts, strict=True):
                joint = joint.cpu()
                good = [i for i in range(len(batch)) if i not in errors]
                together = [os.urandom(8).hex(), len(good)]
                quality = expected_quality(joint)
                marginals = {axis: marginal(joint, axis) for axis in model.grid.axes}
                entries = {
                    batch[i]: stamps.pop(batch[i], {})
                    | {
                        "batch": together,
                        "quality": float(quality[i]),
                        "marginals": {axis: rows[i].tolist() for axis, rows in marginals.items()},
                    }
                    for i in good
                }
                note(*(entry for entry in entries.values() if "file" in entry))
                scores.entries |= entries
                scores.errors |= {batch[i]: why for i, why in with_names(errors, batch).items()}
                bar.update(len(batch))
                check()
