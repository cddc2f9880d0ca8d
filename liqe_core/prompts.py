"""The label vocabularies, the textual template, and the grid of every label combination.

LIQE describes each combination of quality c, scene s and distortion d by one sentence and compares a
image with all of them. The grid keeps the sentences in a fixed order, quality-major, then scene, then
distortion, so that a vector of Q*S*D numbers is a (Q, S, D) array and back.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

#: From worst to best; the position, counted from 1, is the quality level c.
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

#: The sentence for each set of axes, spelled as in the public training script: no full stop, `still_life`
#: with its underscore. The weights were trained on exactly these strings.
TEMPLATES = {
    ("quality", "scene", "distortion"): (
        "a photo of a {scene} with {distortion} artifacts, which is of {quality} quality"
    ),
    ("quality", "scene"): "a photo of a {scene}, which is of {quality} quality",
    ("quality", "distortion"): "a photo with {distortion} artifacts, which is of {quality} quality",
    ("quality",): "a photo with {quality} quality",
}

AXES = ("quality", "scene", "distortion")

#: The four rows of the paper's ablation, by the names used for them everywhere in this project.
VARIANTS = ("quality", "quality+scene", "quality+distortion", "quality+scene+distortion")

#: What the axis that a variant lacks is called where a name is wanted.
ABSENT = "any"


class GridError(ValueError):
    """A vocabulary or template that cannot make prompts; the message names the field."""


@dataclasses.dataclass(frozen=True)
class PromptGrid:
    """The grid of label combinations, and the prompt for each.

    ``PromptGrid()`` is the paper's: 5 qualities x 9 scenes x 11 distortions = 495 prompts. An empty
    ``scene`` or ``distortion`` leaves that axis out; in ``shape`` it has length 1, so that callers sum over
    it as over any other. Your own words and template work the same way::

        PromptGrid(quality=["ugly", "plain", "pretty"], scene=["product", "model"], distortion=[],
                   template="a {quality} shop image of a {scene}")

    Args:
        quality: words from worst to best, at least one; their position from 1 is the score they stand for.
        scene: words, may be empty.
        distortion: words, may be empty.
        template: a sentence with one placeholder for each axis that has words. Default: the paper's.

    Raises:
        GridError: an empty quality vocabulary, an empty or repeated word, a placeholder that is unknown,
            missing, or stands for an axis without words.
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
        """One of the paper's four task sets: ``quality``, ``quality+scene``, ``quality+distortion`` or
        ``quality+scene+distortion``."""
        if name not in VARIANTS:
            raise GridError(f"unknown variant {name!r}: choose one of {', '.join(VARIANTS)}")
        scene = SCENES if "scene" in name else ()
        return cls(scene=scene, distortion=DISTORTIONS if "distortion" in name else ())

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that have words, in the order of the grid."""
        return tuple(axis for axis in AXES if getattr(self, axis))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Q, S, D); 1 for an axis without words."""
        return max(1, len(self.quality)), max(1, len(self.scene)), max(1, len(self.distortion))

    def __len__(self) -> int:
        q, s, d = self.shape
        return q * s * d

    @property
    def prompts(self) -> list[str]:
        """All Q*S*D sentences, quality-major, then scene, then distortion."""
        words = [getattr(self, axis) or (ABSENT,) for axis in AXES]
        return [
            self.template.format(**dict(zip(AXES, combination, strict=True)))
            for combination in product(*words)
        ]

    def names(self, axis: str) -> tuple[str, ...]:
        """The words along an axis, as many as ``shape`` says: ``("any",)`` where the grid lacks it."""
        if axis not in AXES:
            raise GridError(f"unknown axis {axis!r}: choose one of {', '.join(AXES)}")
        return getattr(self, axis) or (ABSENT,)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for a JSON header; ``PromptGrid(**grid.to_dict())`` is the same grid."""
        return {axis: list(getattr(self, axis)) for axis in AXES} | {"template": self.template}


def _checked_words(axis: str, words: Iterable[str]) -> tuple[str, ...]:
    if isinstance(words, str):
        raise GridError(f"PromptGrid.{axis} is one string {words!r}: give a list of words")
    words = tuple(words)
    for position, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise GridError(f"PromptGrid.{axis}[{position}] is {word!r}: every word must be text, not empty")
    if repeated := sorted({word for word in words if words.count(word) > 1}):
        raise GridError(f"PromptGrid.{axis} names {', '.join(map(repr, repeated))} more than once")
    return words


def _check_template(template: str, axes: tuple[str, ...]) -> None:
    field = f"PromptGrid.template {template!r}"
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise GridError(f"{field}: {error}; write a literal brace twice") from None
    # Attribute access and format specifications are refused with the unknown names: a template is data.
    placeholders = {tuple(parts) for _, *parts in fields if parts[0] is not None}
    if placeholders != {(axis, "", None) for axis in axes}:
        expected = ", ".join(f"{{{axis}}}" for axis in axes)
        raise GridError(f"{field}: its placeholders have to be {expected}, those of the axes that have words")
