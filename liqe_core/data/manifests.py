"""Dataset manifests: a YAML file per dataset describes its source, its folder and its labels.

The manifests of this project are in ``data_manifests/``. A manifest for your own images needs five lines;
paths are relative to the manifest::

    title: My holiday images
    folder: photographs
    labels: {form: csv, file: scores.csv, image: file_name}
    score: {column: opinion, range: [1, 5]}
    role: user
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, ValidationInfo, field_validator, model_validator

from liqe_core.crops import CropGeometry
from liqe_core.data import manifest_fields
from liqe_core.data.manifest_fields import ExpectedFields, LabelFields, Name, Names, OneOrMore
from liqe_core.files import CHECKOUT, cache_dir
from liqe_core.intake.settings import Settings, faults, one_of

#: The training datasets of the paper, in the order of its tables.
TRAINING_SETS = ("live", "csiq", "kadid10k", "bid", "clive", "koniq10k")

SESSIONS = 10

#: A file or folder; None means the default.
AnyPath = str | os.PathLike | None


class ManifestError(ValueError):
    """An invalid manifest; the message names the file, the line and the field."""


class Manifest(Settings):
    """One dataset: the fields of its YAML file. A field with an alias has the alias as its name in the file.

    Attributes:
        name: short name, the stem of the file.
        folders: possible names of the unpacked dataset's folder below the root; the first is the default.
        image_folders: subfolders that hold images; the first is the one that labels name.
        shown: the shorter side, in pixels, to which every image was scaled for the observers; None: images
            were shown at their own size, or the size is unknown.
        image_size: (width, height) of every image, or None.
        typical_size: (width, height) of most images if sizes differ; used to estimate the disk space.
        labels: format and location of the label files; None: the dataset has no labels, or this project does
            not read them.
        words: words of the axes ``scene`` and ``distortion`` that replace those of the paper.
        hosted: source files on the Hugging Face hub.
        repositories: public git repositories with the images.
    """

    title: Name
    citation: str | None = None
    home: Annotated[str, Field(pattern=r"^https?://")] | None = None
    note: str | None = None
    terms: manifest_fields.Terms = manifest_fields.Terms(access="unknown")
    role: Literal["train", "test", "open", "user"] = "user"
    kind: Literal["synthetic", "authentic", "generated"] | None = None
    images: PositiveInt | None = None
    references: PositiveInt | None = None
    score: manifest_fields.Score | None = None
    folders: Names = Field(default=[], alias="folder")
    image_folders: Names = Field(default=["."])
    shown: PositiveInt | None = None
    image_size: Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False)] | None = None
    typical_size: Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False)] | None = None
    labels: LabelFields | None = None
    words: dict[Annotated[str, one_of(("scene", "distortion"))], manifest_fields.Words] = Field(default={})
    reference_map: str | None = None
    reference_pattern: manifest_fields.Pattern | None = None
    distortion_pattern: manifest_fields.Pattern | None = None
    expect: ExpectedFields = ExpectedFields()
    archives: list[manifest_fields.ArchiveFields] = Field(default=[])
    hosted: OneOrMore[manifest_fields.HubFields] = Field(default=[], alias="hub")
    files: list[manifest_fields.FileFields] = Field(default=[])
    repositories: OneOrMore[manifest_fields.RepositoryFields] = Field(default=[], alias="repository")
    # Only for `mini`: the source of its scores, its size in pixels, its photographs and the mean opinions.
    source: Any = None
    size: Any = None
    photographs: Any = None
    opinions: Any = None
    _path: Path

    @field_validator("labels")
    @classmethod
    def _check_score(cls, labels: LabelFields | None, fields: ValidationInfo) -> LabelFields | None:
        scored = labels and labels.form not in manifest_fields.WITHOUT_SCORES
        if labels and scored and fields.data.get("score", labels) is None:
            raise ValueError(f"form {labels.form!r} needs the field `score` of the manifest")
        return labels

    @field_validator("expect")
    @classmethod
    def _check_sum(cls, expect: ExpectedFields, fields: ValidationInfo) -> ExpectedFields:
        total, images = sum(expect.distortions.values()), fields.data.get("images")
        if total and images and total != images:
            raise ValueError(f"distortions sum to {total}, but images is {images}")
        return expect

    @model_validator(mode="after")
    def _check_labels(self) -> Manifest:
        if self.labels is None and self.model_fields_set & {"folders", "image_folders"}:
            raise ValueError("folder and image_folders need the field `labels`")
        return self

    @property
    def path(self) -> Path:
        """The YAML file."""
        return self._path

    @property
    def name(self) -> str:
        """Short name: the stem of the file."""
        return self._path.stem

    @property
    def form(self) -> str:
        """The format of the label files, see `label_forms`; empty if there are none."""
        return self.labels.form if self.labels else ""

    @property
    def sessions(self) -> list[tuple[int, int, int]]:
        """Expected (train, val, test) counts of each session; one entry may stand for all ten sessions."""
        counts = self.expect.sessions
        return counts * SESSIONS if self.form == "liqe" and len(counts) == 1 else counts

    @property
    def argument(self) -> str:
        """The command-line argument for it: its name, or the path of a user's manifest."""
        return self.name if self.path.parent == manifest_dir() else shlex.quote(str(self.path))

    @property
    def can_be_fetched(self) -> bool:
        """Whether the images can be downloaded without manual steps."""
        return bool(self.hosted or self.repositories or any(archive.url for archive in self.archives))

    @property
    def page(self) -> str:
        """The web page of the dataset, or an empty string."""
        return self.terms.page or self.home or ""

    def root(self, root: AnyPath = None) -> Path:
        """Return the parent of `folders`: the argument, the folder of a user's manifest, or `data_root`."""
        if root is not None:
            return Path(root).expanduser()
        return data_root() if self.path.parent == manifest_dir() else self.path.parent

    def locate(self, root: AnyPath = None) -> Path | None:
        """Return the dataset's folder, or None if it does not exist.

        `root` may be the folder of all datasets or the dataset's own folder; the case of the folder's name
        does not matter.
        """
        top = self.root(root)
        if not top.is_dir():
            return None
        below = {entry.name.lower(): entry for entry in sorted(top.iterdir(), reverse=True) if entry.is_dir()}
        for name in (*self.folders, self.name):
            if found := below.get(name.lower()):
                return found
        holds_images = any(folder != "." and (top / folder).is_dir() for folder in self.image_folders)
        named_so = self.image_folders == ["."] and top.name.lower() in {name.lower() for name in self.folders}
        return top if holds_images or named_so else None

    def folder(self, root: AnyPath = None) -> Path:
        """Return the dataset's folder, or the folder that it would be unpacked into."""
        return self.locate(root) or self.root(root) / (self.folders[0] if self.folders else self.name)

    def decoded_bytes(self, geometry: CropGeometry) -> int | None:
        """Return the size in bytes of the images decoded for a geometry; None if no image size is known."""
        if not (size := self.image_size or self.typical_size) or not self.images:
            return None
        width, height = geometry.resized(*size)
        return 3 * width * height * self.images

    def reference_of(self, image: str) -> str | None:
        """Return the reference (undistorted) image's name in lower case, or None if unknown."""
        found = self.reference_pattern and self.reference_pattern.search(image)
        return found[1].lower() if found and found[1] else None


def data_root() -> Path:
    """Return the folder of all datasets: ``$LIQE_DATA``, or ``data`` in the cache folder."""
    return Path(os.environ.get("LIQE_DATA") or cache_dir("data")).expanduser()


def manifest_dir() -> Path:
    """Return the folder of the manifests: ``$LIQE_MANIFESTS``, or `own_manifests`."""
    return Path(os.environ.get("LIQE_MANIFESTS") or own_manifests()).expanduser()


def own_manifests() -> Path:
    """Return ``data_manifests`` of this checkout, or the copy inside the package."""
    checkout, package = (top / "data_manifests" for top in (CHECKOUT, CHECKOUT / "liqe_core"))
    return checkout if checkout.is_dir() else package


def available() -> list[str]:
    """List the names of the manifests: the paper's training sets in its order, then the others by name."""
    # published.yaml is not a manifest: it holds the published results (`studies.paper_tables`).
    names = sorted(path.stem for path in manifest_dir().glob("*.yaml") if path.stem != "published")
    return [n for n in TRAINING_SETS if n in names] + [n for n in names if n not in TRAINING_SETS]


def sets_called(names: Iterable[str]) -> list[str]:
    """Expand the group names ``paper`` (its training sets) and ``unseen`` (its other test sets).

    Returns:
        The names of the datasets in order, without duplicates.
    """
    names = list(names)
    unseen = [n for n in available() if load_manifest(n).role == "test"] if "unseen" in names else []
    groups = {"paper": TRAINING_SETS, "unseen": unseen}
    return list(dict.fromkeys(n for name in names for n in groups.get(name, [name])))


def load_manifest(name_or_path: str | os.PathLike) -> Manifest:
    """Read and check one manifest.

    Args:
        name_or_path: a name from `available`, or the path of a YAML file.

    Raises:
        ManifestError: no such manifest, invalid YAML, an unknown or missing field, an invalid value.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = manifest_dir() / f"{name_or_path}.yaml"
        if not path.is_file():
            known = f"choose one of {', '.join(available())}, or give the path of a .yaml file"
            raise ManifestError(f"no dataset called {str(name_or_path)!r} in {manifest_dir()}; {known}")
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file") from None
    try:
        fields, tree = yaml.load(text, _Loader), yaml.compose(text, _Loader)
    except Exception as error:  # PyYAML does not wrap the errors that constructing a value raises
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        line = f", line {mark.line + 1}" if mark else ""
        raise ManifestError(f"{path}{line}: not YAML in UTF-8 ({problem}); correct it") from None
    if not isinstance(fields, dict):
        raise ManifestError(f"{path}: has no fields; start with `title: ...`")
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        lines = [
            f"line {_line(tree, place)}, {'.'.join(map(str, place)) or 'top'}: {message}"
            for place, message in faults(error)
        ]
        raise ManifestError(f"{path}: {'; '.join(lines[:3])}{'; ...' * (len(lines) > 3)}") from None
    manifest._path = path.resolve()
    return manifest


class _Loader(yaml.SafeLoader):
    """Loader that rejects duplicate fields; PyYAML would silently use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names: dict[str, yaml.Node] = {}
        for name, _ in node.value:
            if names.setdefault(str(name.value), name) is not name:
                raise yaml.MarkedYAMLError(None, None, f"duplicate field {name.value!r}", name.start_mark)
        return super().construct_mapping(node, deep)


def _line(node: yaml.Node | None, place: Sequence) -> int:
    """Return the line of a field in the YAML file."""
    for key in place:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == str(key)), node)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key] if key < len(node.value) else node
    return node.start_mark.line + 1 if node else 1
