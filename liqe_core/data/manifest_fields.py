"""Models of the nested fields of a manifest file; `manifests.Manifest` is built from them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from liqe_core.intake.settings import Settings

#: Label formats without a column of human scores.
WITHOUT_SCORES = ("scenes", "distorted")
#: Required fields of label formats; other formats require ``file``.
NEEDED = {
    "liqe": ("prefix",),
    "csv": ("file", "image"),
    "json": ("file", "image"),
    "biq2021": ("train", "test", "image"),
    "distorted": ("photographs", "best_of", "best"),
}

Item = TypeVar("Item")


def _refuse_twice(words: list[str]) -> list[str]:
    if len(set(words)) < len(words):
        raise ValueError("duplicate entries; name each once")
    return words


def _check_group(pattern: re.Pattern[str]) -> re.Pattern[str]:
    if not pattern.groups:
        raise ValueError("the pattern has no group; put the searched part in parentheses")
    return pattern


OneOrMore = Annotated[
    list[Item],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    Field(min_length=1),
]
Pattern = Annotated[re.Pattern[str], AfterValidator(_check_group)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[^\x00]+$")]
Names = OneOrMore[Name]
Address = Annotated[str, Field(pattern=r"^https://")]
Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Word = Annotated[str, Field(pattern=r"^[^;|]*[^;|\s][^;|]*$")]
Words = Annotated[list[Word], Field(min_length=1), AfterValidator(_refuse_twice)]
Counts = Annotated[tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt], Field(strict=False)]


def _as_list(value: object) -> object:
    """Wrap the counts of a single session in a list."""
    return [value] if isinstance(value, list) and value and isinstance(value[0], int) else value


class Terms(Settings):
    """Access to the dataset (``open``: download, ``form``: request form of the authors), licence and page."""

    access: Literal["open", "form", "closed", "unknown"]
    licence: str | None = None
    page: str | None = Field(default=None, alias="where")


class Score(Settings):
    """The human scores: their column, by name or by number from 1, and the published range."""

    column: str | int
    range: Annotated[tuple[Finite, Finite], Field(strict=False)]
    direction: Literal["higher", "lower"] = "higher"
    note: str = ""

    @model_validator(mode="after")
    def _check_range(self) -> Score:
        if not self.low < self.high:
            raise ValueError("range must be [low, high] with low < high")
        return self

    @property
    def low(self) -> float:
        """The lowest possible score."""
        return self.range[0]

    @property
    def high(self) -> float:
        """The highest possible score."""
        return self.range[1]

    def oriented(self, value):
        """Return scores for which higher is better; mirror them in the range if `direction` is lower."""
        return value if self.direction == "higher" else self.low + self.high - value


class LabelFields(Settings):
    """Format and location of the label files."""

    form: Literal["liqe", "tid2013", "pipal", "biq2021", "csv", "json", "scenes", "distorted"]
    prefix: str = ""
    file: Names = Field(default=[])
    image: str = ""
    suffix: str = ""
    train: str = ""
    test: str = ""
    photographs: str = ""
    best_of: str = ""
    best: NonNegativeInt = 0
    described: str = ""  # biq2021: a table beside the manifest with scenes and distortions of some images

    @model_validator(mode="after")
    def _check_form(self) -> LabelFields:
        needed = NEEDED.get(self.form, ("file",))
        if missing := [name for name in needed if name not in self.model_fields_set]:
            raise ValueError(f"form {self.form!r} needs {', '.join(map(repr, missing))}")
        return self


class ExpectedFields(Settings):
    """Expected counts, compared with the labels by `audits`."""

    distortions: dict[str, NonNegativeInt] = Field(default={})
    sessions: Annotated[list[Counts], BeforeValidator(_as_list)] = Field(default=[])


class ArchiveFields(Settings):
    """An archive that the authors provide."""

    name: str
    url: Address | None = None
    sha256: Checksum | None = None
    note: str = ""


class HubFields(Settings):
    """A file in a dataset repository on the Hugging Face hub: an archive, or with a `name` a single file."""

    repository: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]
    revision: Commit | None = None
    file: Name
    sha256: Checksum | None = None
    bytes: PositiveInt
    unpacked: PositiveInt | None = None
    terms: str = ""
    name: str | None = None
    partial: bool = False  # the archive may be incomplete; its images are used


class FileFields(Settings):
    """A single file of the dataset with its own URL."""

    name: str
    url: Address
    sha256: Checksum | None = None
    bytes: PositiveInt | None = None
    unpacked: PositiveInt | None = None


class RepositoryFields(Settings):
    """A folder of a public repository at a fixed commit."""

    url: Address
    commit: Commit
    path: str = ""
    into: str = ""
    terms: str = ""
