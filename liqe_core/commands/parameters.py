"""The parameters of the notebooks: a model each, checked by the notebook itself and before any is run.

A notebook's first cell holds plain typed values, which papermill needs; the next line checks them::

    p = TrainingParameters.from_notebook(globals())

and from there on `p.sessions` is a list of numbers from 1 to 10. A parameter that is a setting of training is
checked by the profile, see `Parameters.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from liqe_core.commands.options import json_or_text
from liqe_core.data.mini import read_manifest
from liqe_core.files import runs_dir
from liqe_core.intake.settings import NotNegative, Positive, Settings, in_one_line, one_of
from liqe_core.studies.ablations import STUDIES
from liqe_core.studies.scorers import SHORT
from liqe_core.training import profiles

Item = TypeVar("Item")


class ParameterError(ValueError):
    """A parameter that does not exist, or that cannot have its value; a notebook shows it as one line."""

    def _render_traceback_(self) -> list[str]:  # what IPython asks for; where it was raised helps nobody
        return [f"ParameterError: {self}"]


def _refuse_twice(items: list[Item]) -> list[Item]:
    if len(set(items)) < len(items):
        raise ValueError("name each once")
    return items


def _refuse_absent(path: str) -> str:
    if path and "://" not in path and not Path(path).exists():
        raise ValueError("path does not exist")
    return path


def _refuse_absent_weights(checkpoint: str) -> str:
    from liqe_core.checkpoints import PUBLISHED, located

    if checkpoint and checkpoint not in PUBLISHED:  # which are fetched where they are first used
        located(checkpoint)  # its error is a ValueError
    return checkpoint


def _refuse_no_scorer(name: str) -> str:
    from liqe_core.checkpoints import is_weights

    if name in (*SHORT.values(), "sharpness") or name.startswith("pyiqa:") or is_weights(name):
        return name
    known = ", ".join([*SHORT.values(), "sharpness"])
    raise ValueError(f"no such scorer; give {known}, weights by file or name, or pyiqa:METRIC")


def _read_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of training by name, with the text of one that is no text read as JSON."""
    known = profiles.BASE.flat()
    return {name: _read(value, isinstance(known.get(name, ""), str)) for name, value in changes.items()}


ExistingPath = Annotated[str, AfterValidator(_refuse_absent)]
Checkpoint = Annotated[str, AfterValidator(_refuse_absent_weights)]
Scorer = Annotated[str, AfterValidator(_refuse_no_scorer)]
Changes = Annotated[dict[str, Any], AfterValidator(_read_changes)]
Listed = Annotated[list[Item], Field(min_length=1), AfterValidator(_refuse_twice)]


#: By the name of the notebook.
NOTEBOOKS: dict[str, type[Parameters]] = {}


class Parameters(Settings):
    """What every notebook has.

    Args:
        notebook: whose parameters a subclass has.

    Attributes:
        profile: whose runs, and the name of their folder. out_dir: for results; empty: ``runs/<profile>``.
    """

    profile: Annotated[str, one_of(profiles.PROFILES)] = "mini"
    out_dir: str = ""

    def __init_subclass__(cls, notebook: str = "") -> None:
        if notebook:
            NOTEBOOKS[notebook] = cls

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Text where a parameter is no text is read as JSON: ``-p sessions '[1]'`` arrives as text, and so
        does 1e-4 from YAML. A number where it is text is that text."""
        text = {name for name, field in cls.model_fields.items() if field.annotation is str}
        return {name: _read(value, name in text) for name, value in values.items()}

    @model_validator(mode="after")
    def _refuse_wrong_settings(self) -> Self:
        self.settings()
        return self

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """The parameters with these values; the others have their defaults.

        Raises:
            ParameterError: names every wrong value, in one line.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ParameterError(in_one_line(error)) from None

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """The parameters of a running notebook.

        Args:
            namespace: ``globals()``.

        Raises:
            ParameterError: a wrong value; or papermill was given a name that no notebook has.
        """
        # papermill only warns of unknown names; the cell that it adds begins so.
        injected = [source for source in namespace.get("In", ()) if source.startswith("# Parameters")]
        names = re.findall(r"(?m)^(?!PAPERMILL_)(\w+) = ", "".join(injected[-1:]))
        _refuse_unknown(names, NOTEBOOKS.values())
        return cls.check({name: namespace[name] for name in cls.model_fields if name in namespace})

    def settings(self, **changes: object) -> profiles.Profile:
        """The profile, with the parameters that are settings of training, and some changes; an empty one
        leaves the profile's own."""
        return profiles.profile(self.profile, **getattr(self, "changes", {}) | changes)

    @property
    def root(self) -> Path:
        """The folder of the profile's runs and results."""
        return Path(self.out_dir or runs_dir(self.profile))


class SeededParameters(Parameters):
    """What most notebooks have beside that."""

    seed: NonNegativeInt = 1


class QuickstartParameters(Parameters, notebook="00_quickstart"):
    """Of that notebook."""

    checkpoint: Checkpoint = "liqe-tiny"
    image: ExistingPath = ""
    photograph: Annotated[str, one_of(read_manifest()["photographs"])] = "chelsea"
    interactive: bool = True


class FromScratchParameters(SeededParameters, notebook="01_from_scratch"):
    """Of that notebook."""

    checkpoint: Checkpoint = "liqe-tiny"
    image: ExistingPath = ""
    steps: Annotated[int, Field(ge=3)] = 18
    learning_rate: Positive = 5e-4


class ConceptsParameters(SeededParameters, notebook="02_concepts"):
    """Of that notebook."""

    weights: str = ""


class DataParameters(SeededParameters, notebook="03_data_preparation"):
    """Of that notebook."""

    data_root: ExistingPath = ""
    labels_mirror: ExistingPath = ""
    fetch_labels: bool = False


class TrainingParameters(SeededParameters, notebook="04_multitask_training"):
    """Of that notebook."""

    sessions: Listed[profiles.Session] = Field(default=[1, 2, 3])
    variant: str = ""
    weighting: str = ""
    epochs: NonNegativeInt = 0
    at_once: NonNegativeInt = 0
    scratch: Annotated[str, one_of(["", *profiles.PROFILES])] = "mini-scratch"
    scratch_epochs: PositiveInt = 2
    changes: Changes = Field(default={})
    runs_root: str = ""

    def settings(self, **changes: object) -> profiles.Profile:
        own = {name: getattr(self, name) or None for name in ("variant", "weighting", "epochs")}
        return super().settings(**own | changes)


class AblationParameters(SeededParameters, notebook="05_ablations"):
    """Of that notebook."""

    session: profiles.Session = 1
    brief_epochs: NonNegativeInt = 0
    brief_steps: PositiveInt = 6
    studies: Listed[Annotated[str, one_of(STUDIES)]] = Field(default=["variant"])
    test_crops: Listed[PositiveInt] = Field(default=[1, 5, 15])
    test_images: PositiveInt = 40
    wording: str = "a {quality} photo of a {scene} with {distortion}"


class OpenBenchmarkParameters(Parameters, notebook="06_open_benchmark"):
    """Of that notebook."""

    profile: Annotated[str, one_of(profiles.PROFILES)] = "open-frozen"
    recompute: bool = False
    seeds: Listed[NonNegativeInt] = Field(default=[1, 2, 3, 4, 5])
    runs_root: str = ""


class GmadParameters(Parameters, notebook="07_gmad"):
    """Of that notebook."""

    session: profiles.Session = 1
    scorers: Listed[Scorer] = Field(default=["liqe-tiny", "sharpness"])
    opponents: Annotated[list[Scorer], AfterValidator(_refuse_twice)] = Field(default=["pyiqa:unique"])
    attacker: Scorer = "liqe-tiny"
    defender: Scorer = "sharpness"
    levels: PositiveInt = 2
    width: Annotated[float, Field(ge=0, le=1)] = 0.0
    images: ExistingPath = ""
    human: ExistingPath = ""
    most: PositiveInt = 100

    @model_validator(mode="after")
    def _refuse_one_alone(self) -> Self:
        if self.attacker == self.defender:
            raise ValueError(f"attacker and defender are both {self.attacker!r}; give two of the scorers")
        return self


class RealignmentParameters(SeededParameters, notebook="08_realignment"):
    """Of that notebook."""

    session: profiles.Session = 1
    noise: NotNegative = 0.15


class HalfPrecisionParameters(SeededParameters, notebook="09_half_precision"):
    """Of that notebook."""

    profile: Annotated[str, one_of(profiles.PROFILES)] = "paper"
    architecture: str = "ViT-B-32-quickgelu"
    pretrained: str = ""
    learning_rate: Positive = 5e-6


class PaperTableParameters(SeededParameters, notebook="10_paper_tables"):
    """Of that notebook."""

    paper_runs: ExistingPath = ""
    checkpoint: Checkpoint = ""
    changes: Changes = Field(default={})
    session: profiles.Session = 1


class BenchmarkParameters(SeededParameters, notebook="90_benchmarks"):
    """Of that notebook."""

    architecture: str = "ViT-B-32-quickgelu"
    quick: bool = True
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    half: Literal["", "float16", "bfloat16"] = ""


def check_for(notebooks: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Some parameters before notebooks are run, each read by the notebooks that have it.

    Raises:
        ParameterError: as `Parameters.check`; or a name that none of the notebooks has.
    """
    models = [NOTEBOOKS.get(name, Parameters) for name in notebooks]
    _refuse_unknown(values, models)
    read = dict(values)
    for model in models:
        names = [name for name in values if name in model.model_fields]
        checked = model.check({name: values[name] for name in names})
        read |= {name: getattr(checked, name) for name in names}
    return read


def _refuse_unknown(names: Iterable[str], models: Iterable[type[Parameters]]) -> None:
    known = {name for model in models for name in model.model_fields}
    if unknown := sorted(set(names) - known):
        raise ParameterError(f"no parameter {', '.join(unknown)}; choose from {', '.join(sorted(known))}")


def _read(value: Any, is_text: bool) -> Any:
    if is_text:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return json_or_text(value) if isinstance(value, str) else value
