"""Data set manifests: one YAML file a data set says what it is, where it lies and how its labels read.

The manifests of this project are in ``data_manifests/``. For your own pictures, five lines are enough; paths
are relative to the manifest::

    title: My holiday pictures
    folder: photographs
    labels: {form: csv, file: scores.csv, image: file_name}
    score: {column: opinion, range: [1, 5]}
    role: user
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from liqe_core.data.manifest_fields import WITHOUT_SCORES, ManifestFields
from liqe_core.files import CHECKOUT, cache_dir
from liqe_core.intake.settings import faults

#: The data sets of the paper's training, in the order of its tables.
TRAINING_SETS = ("live", "csiq", "kadid10k", "bid", "clive", "koniq10k")

SESSIONS = 10


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file, the line and the field."""


@dataclasses.dataclass(frozen=True)
class Score:
    """What the human scores are.

    Attributes:
        column: name, or number counted from 1, of the column in the label file.
        low, high: the scale's ends, as published.
        direction: ``higher`` when a high number is a good picture, else ``lower``.
    """

    column: str | int
    low: float
    high: float
    direction: str = "higher"

    def oriented(self, value):
        """Scores so that higher is better: turned round within the range where the set's are not."""
        return value if self.direction == "higher" else self.low + self.high - value


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One data set. Fields that a manifest leaves out are None or empty; `fields` is the YAML as it stands.

    Attributes:
        name: short name, the file's stem.
        folders: names the unpacked data set may have below the root; the first is the usual one.
        pictures: folders below that which hold pictures; the first is the one that labels name.
        picture_size: (width, height) that every picture has, or None.
        labels: how the label files read; ``labels["form"]`` names the reader.
        words: own words of the axes ``scene`` and ``distortion``, in place of the paper's.
        sessions: expected (train, val, test) counts of each session, or None.
    """

    name: str
    path: Path
    title: str
    role: str = "user"
    kind: str | None = None
    images: int | None = None
    references: int | None = None
    score: Score | None = None
    folders: tuple[str, ...] = ()
    pictures: tuple[str, ...] = (".",)
    picture_size: tuple[int, int] | None = None
    labels: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    distortions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sessions: tuple[tuple[int, int, int], ...] | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def access(self) -> str:
        """``open`` (download it), ``form`` (the authors ask for one), ``closed`` or ``unknown``."""
        return self.fields.get("terms", {}).get("access", "unknown")

    @property
    def argument(self) -> str:
        """What a command takes for it: the name of one of ours, the path of a user's manifest."""
        return self.name if self.path.parent == manifest_dir() else shlex.quote(str(self.path))

    @property
    def shown(self) -> int | None:
        """The shorter side, in pixels, at which people saw every picture that they scored, whatever its own
        size; None where each was seen as it is, or nothing is known of it."""
        return self.fields.get("shown")

    @property
    def repositories(self) -> tuple[Mapping[str, str], ...]:
        """The public repositories that the pictures come from; fields as in `manifest_fields`."""
        repositories = self.fields.get("repository", ())
        return (repositories,) if isinstance(repositories, Mapping) else tuple(repositories)

    @property
    def hosted(self) -> tuple[Mapping[str, Any], ...]:
        """The files of the Hugging Face hub that the set comes from; fields as in `manifest_fields`."""
        files = self.fields.get("hub", ())
        return (files,) if isinstance(files, Mapping) else tuple(files)

    @property
    def can_be_fetched(self) -> bool:
        """Whether a program can get the pictures."""
        urls = any(archive.get("url") for archive in self.fields.get("archives", ()))
        return bool(self.hosted or self.repositories or urls)

    @property
    def where(self) -> str:
        """The page to get the data set from, or an empty string."""
        return self.fields.get("terms", {}).get("where") or self.fields.get("home") or ""

    def root(self, root: str | os.PathLike | None = None) -> Path:
        """The folder that `folders` lie in: as given, or beside a user's manifest, or `data_root`."""
        if root is not None:
            return Path(root).expanduser()
        return data_root() if self.path.parent == manifest_dir() else self.path.parent

    def locate(self, root: str | os.PathLike | None = None) -> Path | None:
        """The data set's folder, or None when it is not there.

        Both the folder of all data sets and the data set's own folder are taken for `root`; case of the
        folder's name does not matter.
        """
        top = self.root(root)
        if not top.is_dir():
            return None
        below = {entry.name.lower(): entry for entry in sorted(top.iterdir(), reverse=True) if entry.is_dir()}
        for name in (*self.folders, self.name):
            found = top / name
            if found.is_dir():
                return found
            if name.lower() in below:
                return below[name.lower()]
        if any(folder != "." and (top / folder).is_dir() for folder in self.pictures):
            return top
        if self.pictures == (".",) and top.name.lower() in {name.lower() for name in self.folders}:
            return top
        return None

    def folder(self, root: str | os.PathLike | None = None) -> Path:
        """Where the data set is, or would be put."""
        return self.locate(root) or self.root(root) / (self.folders[0] if self.folders else self.name)

    def reference_of(self, image: str) -> str | None:
        """The reference (undistorted) picture's name in lower case, where the file name tells it."""
        pattern = self.fields.get("reference_pattern")
        found = re.search(pattern, image) if pattern else None
        return found.group(1).lower() if found else None


def data_root() -> Path:
    """Where data sets are: ``$LIQE_DATA``, else ``data`` in the cache folder."""
    return Path(os.environ.get("LIQE_DATA") or cache_dir("data")).expanduser()


def manifest_dir() -> Path:
    """``$LIQE_MANIFESTS``, else ``data_manifests`` of this checkout, else those inside the package."""
    checkout, package = (top / "data_manifests" for top in (CHECKOUT, CHECKOUT / "liqe_core"))
    at_hand = checkout if checkout.is_dir() else package
    return Path(os.environ.get("LIQE_MANIFESTS") or at_hand).expanduser()


def available() -> list[str]:
    """Names of the manifests: the paper's training sets first, in its order, then the others by name."""
    # published.yaml, beside them, holds the numbers to compare with (`studies.paper_tables`).
    names = sorted(path.stem for path in manifest_dir().glob("*.yaml") if path.stem != "published")
    return [n for n in TRAINING_SETS if n in names] + [n for n in names if n not in TRAINING_SETS]


def sets_called(names: Iterable[str]) -> list[str]:
    """Names of data sets, with ``paper`` for the paper's training sets and ``unseen`` for those that it never
    trains on; each once, in order."""
    names = list(names)
    unseen = [n for n in available() if load_manifest(n).role == "test"] if "unseen" in names else []
    groups = {"paper": TRAINING_SETS, "unseen": unseen}
    return list(dict.fromkeys(n for name in names for n in groups.get(name, [name])))


def load_manifest(name_or_path: str | os.PathLike) -> Manifest:
    """Read and check one manifest.

    Args:
        name_or_path: a name from `available`, or the path of a YAML file.

    Raises:
        ManifestError: no such manifest, not YAML, an unknown or missing field, a wrong value.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = manifest_dir() / f"{name_or_path}.yaml"
        if not path.is_file():
            raise ManifestError(
                f"no data set called {str(name_or_path)!r} in {manifest_dir()}: choose one of "
                f"{', '.join(available()) or '(none there)'}, or give the path of a .yaml file"
            )
    try:
        text = path.read_text(encoding="utf-8-sig")
        fields, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{path}: not YAML: {error}") from None
    if not isinstance(fields, dict):
        raise ManifestError(f"{path}: holds no fields; start with `title: ...`")
    _check(fields, tree, path)
    score = fields.get("score")
    low, high = score["range"] if score else (0.0, 0.0)
    sessions = fields.get("expect", {}).get("sessions")
    if sessions and isinstance(sessions[0], int):
        # The public split of a set is one session; the paper's are ten.
        sessions = [sessions] * (SESSIONS if fields["labels"]["form"] == "liqe" else 1)
    return Manifest(
        name=path.stem,
        path=path.resolve(),
        title=fields["title"],
        role=fields.get("role", "user"),
        kind=fields.get("kind"),
        images=fields.get("images"),
        references=fields.get("references"),
        score=score and Score(score["column"], low, high, score.get("direction", "higher")),
        folders=_names(fields.get("folder", ())),
        pictures=_names(fields.get("pictures", ".")),
        picture_size=tuple(fields["picture_size"]) if "picture_size" in fields else None,
        labels=fields.get("labels", {}),
        words={axis: tuple(words) for axis, words in fields.get("words", {}).items()},
        distortions=fields.get("expect", {}).get("distortions", {}),
        sessions=sessions and tuple(map(tuple, sessions)),
        fields=fields,
    )


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _check(fields: dict, tree: yaml.Node | None, path: Path) -> None:
    """Against `ManifestFields`, then what concerns several fields; every fault is told at once."""
    found: list[tuple[Sequence[int | str], str]] = []
    try:
        manifest = ManifestFields.model_validate(fields)
    except ValidationError as error:
        found += faults(error)
    else:
        form = manifest.labels.form if manifest.labels else WITHOUT_SCORES[0]
        if form not in WITHOUT_SCORES and not manifest.score:
            found.append((["labels"], f"form {form!r} needs the field `score` of the manifest"))
        total = sum(manifest.expect.distortions.values()) if manifest.expect else 0
        if total and manifest.images and total != manifest.images:
            found.append((["expect", "distortions"], f"sum to {total}, but images is {manifest.images}"))
    if found:
        lines = [
            f"  line {_line(tree, place)}, {'.'.join(map(str, place)) or 'top'}: {message}"
            for place, message in found
        ]
        raise ManifestError(f"{path}: not a good manifest:\n" + "\n".join(lines))


def _line(node: yaml.Node | None, place: Sequence) -> int:
    """The line of the YAML file where a field stands."""
    for key in place:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == str(key)), node)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
    return node.start_mark.line + 1 if node else 1
