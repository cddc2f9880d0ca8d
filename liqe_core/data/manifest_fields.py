"""What a manifest may hold: its fields, as they stand in the YAML file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from liqe_core.intake.settings import Settings

#: Forms of labels that have no column of human scores.
WITHOUT_SCORES = ("classes", "distorted")
#: What a form of labels needs; the others need ``file``.
NEEDED = {
    "liqe": ("prefix",),
    "csv": ("file", "image"),
    "json": ("file", "image"),
    "biq2021": ("train", "test", "image"),
    "distorted": ("photographs", "best_of", "best"),
}

Item = TypeVar("Item")


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


def _refuse_twice(words: list[str]) -> list[str]:
    if len(set(words)) < len(words):
        raise ValueError("name each once")
    return words


OneOrMore = Annotated[
    list[Item],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    Field(min_length=1),
]
Name = Annotated[str, Field(min_length=1)]
Names = OneOrMore[Name]
Address = Annotated[str, Field(pattern=r"^https://")]
Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Pattern = Annotated[str, AfterValidator(_compiles)]
Word = Annotated[str, Field(pattern=r"^[^;|]*[^;|\s][^;|]*$")]
Words = Annotated[list[Word], Field(min_length=1), AfterValidator(_refuse_twice)]
Counts = Annotated[list[NonNegativeInt], Field(min_length=3, max_length=3)]


def _as_list(value: object) -> object:
    """The counts of one session as a list of one."""
    return [value] if isinstance(value, list) and value and isinstance(value[0], int) else value


Sessions = Annotated[list[Counts], BeforeValidator(_as_list)]


class TermFields(Settings):
    """Who may have the data set, and where."""

    access: Literal["open", "form", "closed", "unknown"]
    licence: str | None = None
    where: str | None = None


class ScoreFields(Settings):
    """The human scores."""

    column: str | int
    range: Annotated[list[float], Field(min_length=2, max_length=2)]
    direction: Literal["higher", "lower"] = "higher"
    note: str = ""

    @model_validator(mode="after")
    def _check_range(self) -> ScoreFields:
        if not self.range[0] < self.range[1]:
            raise ValueError("range is not [low, high] with low < high")
        return self


class LabelFields(Settings):
    """How the label files read."""

    form: Literal["liqe", "tid2013", "pipal", "biq2021", "csv", "json", "classes", "distorted"]
    prefix: str | None = None
    file: Names | None = None
    image: str | None = None
    suffix: str | None = None
    train: str | None = None
    test: str | None = None
    photographs: str | None = None
    best_of: str | None = None
    best: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _check_form(self) -> LabelFields:
        if missing := [name for name in NEEDED.get(self.form, ("file",)) if getattr(self, name) is None]:
            raise ValueError(f"form {self.form!r} needs {', '.join(map(repr, missing))}")
        return self


class WordFields(Settings):
    """Own words of the axes."""

    scene: Words | None = None
    distortion: Words | None = None


class ExpectedFields(Settings):
    """Counts that the labels are held against."""

    distortions: dict[str, NonNegativeInt] = Field(default={})
    sessions: Sessions | None = None


class ArchiveFields(Settings):
    """An archive that the authors give."""

    name: str
    url: Address | None = None
    sha256: Checksum | None = None
    note: str = ""


class TakeFields(Settings):
    """What of an archive goes where, see `data.archives.place_by_rules`."""

    source: Name = Field(alias="from")
    to: Name | None = None
    match: Literal["path", "name"] = "path"


class HubFields(Settings):
    """A file of a data set repository of the Hugging Face hub: an archive to take from, or a loose file."""

    repository: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]
    revision: Commit | None = None
    file: Name
    sha256: Checksum | None = None
    bytes: PositiveInt
    unpacked: PositiveInt | None = None
    terms: str = ""
    name: str | None = None
    take: Annotated[list[TakeFields], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> HubFields:
        if (self.name is None) == (self.take is None):
            raise ValueError("give `take` of an archive, or `name` of a loose file")
        return self


class FileFields(Settings):
    """A loose file that belongs to the set and has an address of its own."""

    name: str
    url: Address
    sha256: Checksum | None = None
    bytes: PositiveInt | None = None


class RepositoryFields(Settings):
    """A folder of a public repository, at a commit."""

    url: Address
    commit: Commit
    path: str = ""
    into: str = ""
    terms: str = ""


class ManifestFields(Settings):
    """All fields of a manifest."""

    title: Name
    citation: str | None = None
    home: Annotated[str, Field(pattern=r"^https?://")] | None = None
    note: str | None = None
    terms: TermFields | None = None
    role: Literal["train", "test", "open", "user"] = "user"
    kind: Literal["synthetic", "authentic", "generated"] | None = None
    images: PositiveInt | None = None
    references: PositiveInt | None = None
    score: ScoreFields | None = None
    folder: Names | None = None
    pictures: Names | None = None
    shown: PositiveInt | None = None
    picture_size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    labels: LabelFields | None = None
    words: WordFields | None = None
    reference_map: str | None = None
    reference_pattern: Pattern | None = None
    distortion_pattern: Pattern | None = None
    expect: ExpectedFields | None = None
    archives: list[ArchiveFields] = Field(default=[])
    hub: OneOrMore[HubFields] | None = None
    files: list[FileFields] = Field(default=[])
    repository: OneOrMore[RepositoryFields] | None = None
    # Of `mini`: where its numbers come from, its size in pixels, its photographs and their mean opinions.
    source: Any = None
    size: Any = None
    photographs: Any = None
    opinions: Any = None

    @model_validator(mode="after")
    def _check_labels(self) -> ManifestFields:
        if (self.folder or self.pictures) and not self.labels:
            raise ValueError("folder and pictures need the field `labels`")
        return self
