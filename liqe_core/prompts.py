"""Label vocabularies, prompt templates, and the grid of all label combinations.

LIQE describes each combination of quality c, scene s and distortion d by one sentence and compares an
image with all of them. The order of the sentences is fixed: quality-major, then scene, then distortion. A
vector of Q*S*D numbers can therefore be reshaped to a (Q, S, D) array and back.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

#: Quality words from worst to best. The position, counted from 1, is the quality level c.
QUALITIES = ("bad", "poor", "fair", "good", "perfect")

SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")

DISTORTIONS = (
    "jpeg2000 compression",
    "jpeg compression",
    "noise",
    "blur",
    "color",
    "contrast",
    "overexposure",
    "underexposure",
    "spatial",
    "quantization",
    "other",
)

#: The template for each set of axes, spelled as in the public training script: no full stop, and `still_life`
#: with an underscore. The published weights were trained on exactly these strings.
TEMPLATES = {
    ("quality", "scene", "distortion"): (
        "a photo of a {scene} with {distortion} artifacts, which is of {quality} quality"
    ),
    ("quality", "scene"): "a photo of a {scene}, which is of {quality} quality",
    ("quality", "distortion"): "a photo with {distortion} artifacts, which is of {quality} quality",
    ("quality",): "a photo with {quality} quality",
}

AXES = ("quality", "scene", "distortion")

#: The four rows of the paper's ablation, under the names used throughout this project.
VARIANTS = ("quality", "quality+scene", "quality+distortion", "quality+scene+distortion")

#: The single word of an axis that a variant does not use.
ABSENT = "any"


class GridError(ValueError):
    """Raised for an invalid vocabulary or template. The message names the field."""


@dataclasses.dataclass(frozen=True)
class PromptGrid:
    """The grid of label combinations and their prompts.

    ``PromptGrid()`` is the paper's grid: 5 qualities x 9 scenes x 11 distortions = 495 prompts. An empty
    ``scene`` or ``distortion`` removes that axis from the prompts. Its length in ``shape`` is then 1, so
    callers can sum over it like over any other axis. Custom words and templates work the same way::

        PromptGrid(quality=["ugly", "plain", "pretty"], scene=["product", "model"], distortion=[],
                   template="a {quality} shop image of a {scene}")

    Args:
        quality: at least one word, from worst to best. The score of a word is its position, counted from 1.
        scene: scene words; may be empty.
        distortion: distortion words; may be empty.
        template: a sentence with one placeholder for each axis that has words. Default: the paper's.

    Raises:
        GridError: if there are no quality words, if a word is empty or repeated, or if a placeholder is
            missing, unknown or belongs to an axis without words.
    """

    quality: Sequence[str] = QUALITIES
    scene: Sequence[str] = SCENES
    distortion: Sequence[str] = DISTORTIONS
    template: str = ""

    def __post_init__(self) -> None:
        for axis in AXES:
            object.__setattr__(self, axis, _checked_words(axis, getattr(self, axis)))
        if not self.quality:
            raise GridError("PromptGrid.quality is empty: give the quality words, from worst to best")
        if not self.template:
            object.__setattr__(self, "template", TEMPLATES[self.axes])
        _check_template(self.template, self.axes)

    @classmethod
    def variant(cls, name: str) -> PromptGrid:
        """Build the grid of one of the paper's ablations, a name in `VARIANTS`."""
        if name not in VARIANTS:
            raise GridError(f"unknown variant {name!r}: choose one of {', '.join(VARIANTS)}")
        scene = SCENES if "scene" in name else ()
        return cls(scene=scene, distortion=DISTORTIONS if "distortion" in name else ())

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes that have words, in the order of the grid."""
        return tuple(axis for axis in AXES if getattr(self, axis))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Q, S, D), the lengths of the axes; 1 for an axis without words."""
        return max(1, len(self.quality)), max(1, len(self.scene)), max(1, len(self.distortion))

    def __len__(self) -> int:
        q, s, d = self.shape
        return q * s * d

    @property
    def prompts(self) -> list[str]:
        """All Q*S*D prompts: quality-major, then scene, then distortion."""
        words = [getattr(self, axis) or (ABSENT,) for axis in AXES]
        return [
            self.template.format(**dict(zip(AXES, combination, strict=True)))
            for combination in product(*words)
        ]

    def names(self, axis: str) -> tuple[str, ...]:
        """Return the words of an axis; ``("any",)`` for an axis without words, to match ``shape``."""
        if axis not in AXES:
            raise GridError(f"unknown axis {axis!r}: choose one of {', '.join(AXES)}")
        return getattr(self, axis) or (ABSENT,)

    def to_dict(self) -> dict[str, Any]:
        """Return lists and strings for a JSON header. ``PromptGrid(**grid.to_dict())`` equals the grid."""
        return {axis: list(getattr(self, axis)) for axis in AXES} | {"template": self.template}


def _checked_words(axis: str, words: Iterable[str]) -> tuple[str, ...]:
    if isinstance(words, str):
        raise GridError(f"PromptGrid.{axis} is a string, {words!r}: give a list of words")
    words = tuple(words)
    for position, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise GridError(f"PromptGrid.{axis}[{position}] is {word!r}: give a non-empty string")
    if repeated := sorted({word for word in words if words.count(word) > 1}):
        raise GridError(f"PromptGrid.{axis} repeats {', '.join(map(repr, repeated))}: give each word once")
    return words


def _check_template(template: str, axes: tuple[str, ...]) -> None:
    field = f"PromptGrid.template {template!r}"
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise GridError(f"{field}: {error}; write a literal brace twice") from None
    # A template is data: attribute access and format specifications are rejected, like unknown names.
    placeholders = {tuple(parts) for _, *parts in fields if parts[0] is not None}
    if placeholders != {(axis, "", None) for axis in axes}:
        expected = ", ".join(f"{{{axis}}}" for axis in axes)
        raise GridError(f"{field}: the placeholders must be {expected}, one for each axis that has words")
