"""The parameters of the notebooks: one pydantic model per notebook, checked before and during a run.

The first cell of a notebook holds plain typed values for papermill. The next line checks them::

    p = TrainingParameters.from_notebook(globals())

After that, `p.sessions` is a list of numbers from 1 to 10. Parameters that are training settings are checked
by the profile, see `Parameters.settings`.
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
    """An unknown parameter or an invalid value; a notebook shows the error in one line."""

    def _render_traceback_(self) -> list[str]:  # called by IPython; the traceback would not help users
        return [f"ParameterError: {self}"]


def _refuse_twice(items: list[Item]) -> list[Item]:
    if len(set(items)) < len(items):
        raise ValueError("duplicate entries; name each once")
    return items


def _refuse_absent(path: str) -> str:
    if path and "://" not in path and not Path(path).exists():
        raise ValueError("path does not exist")
    return path


def _refuse_absent_weights(checkpoint: str) -> str:
    from liqe_core.checkpoints import PUBLISHED, located

    if checkpoint and checkpoint not in PUBLISHED:  # published checkpoints are downloaded at first use
        located(checkpoint)  # raises a ValueError
    return checkpoint


def _refuse_no_scorer(name: str) -> str:
    from liqe_core.checkpoints import is_weights

    if name in (*SHORT.values(), "sharpness") or name.startswith("pyiqa:") or is_weights(name):
        return name
    known = ", ".join([*SHORT.values(), "sharpness"])
    raise ValueError(f"no such scorer; choose {known}, a checkpoint file or name, or pyiqa:METRIC")


def _read_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Parse training settings by name; text is read as JSON unless the setting is a string."""
    known = profiles.BASE.flat()
    return {name: _read(value, isinstance(known.get(name, ""), str)) for name, value in changes.items()}


ExistingPath = Annotated[str, AfterValidator(_refuse_absent)]
Checkpoint = Annotated[str, AfterValidator(_refuse_absent_weights)]
Scorer = Annotated[str, AfterValidator(_refuse_no_scorer)]
Changes = Annotated[dict[str, Any], AfterValidator(_read_changes)]
Listed = Annotated[list[Item], Field(min_length=1), AfterValidator(_refuse_twice)]


#: The parameter models by the name of the notebook.
NOTEBOOKS: dict[str, type[Parameters]] = {}


class Parameters(Settings):
    """Parameters of every notebook.

    Args:
        notebook: name of the notebook that a subclass belongs to.

    Attributes:
        profile: profile of the runs, and the name of their folder.
        out_dir: folder for results; empty: ``runs/<profile>``.
    """

    profile: Annotated[str, one_of(profiles.PROFILES)] = "mini"
    out_dir: str = ""

    def __init_subclass__(cls, notebook: str = "") -> None:
        if notebook:
            NOTEBOOKS[notebook] = cls

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Parse text as JSON unless the parameter is a string, and numbers as text if it is a string.

        ``-p sessions '[1]'`` arrives as text, and so does 1e-4 from YAML.
        """
        text = {name for name, field in cls.model_fields.items() if field.annotation is str}
        return {name: _read(value, name in text) for name, value in values.items()}

    @model_validator(mode="after")
    def _refuse_wrong_settings(self) -> Self:
        self.settings()
        return self

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """Validate values; other parameters have their defaults.

        Raises:
            ParameterError: a value is invalid; the message names every invalid value in one line.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ParameterError(in_one_line(error)) from None

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """Read and validate the parameters of a running notebook.

        Args:
            namespace: ``globals()``.

        Raises:
            ParameterError: a value is invalid, or papermill received a name that no notebook declares.
        """
        # papermill only warns about unknown names; they are in the cell that it adds.
        injected = [source for source in namespace.get("In", ()) if source.startswith("# Parameters")]
        names = re.findall(r"(?m)^(?!PAPERMILL_)(\w+) = ", "".join(injected[-1:]))
        _refuse_unknown(names, NOTEBOOKS.values())
        return cls.check({name: namespace[name] for name in cls.model_fields if name in namespace})

    def settings(self, **changes: object) -> profiles.Profile:
        """Return the profile with training settings and `changes`; empty ones keep the profile's value."""
        return profiles.profile(self.profile, **getattr(self, "changes", {}) | changes)

    @property
    def root(self) -> Path:
        """The folder of the profile's runs and results."""
        return Path(self.out_dir or runs_dir(self.profile))


class SeededParameters(Parameters):
    """Parameters of notebooks with a seed."""

    seed: NonNegativeInt = 1


class QuickstartParameters(Parameters, notebook="00_quickstart"):
    """Parameters of notebook 00_quickstart."""

    checkpoint: Checkpoint = "liqe-tiny"
    image: ExistingPath = ""
    photograph: Annotated[str, one_of(read_manifest()["photographs"])] = "chelsea"
    interactive: bool = True


class FromScratchParameters(SeededParameters, notebook="01_from_scratch"):
    """Parameters of notebook 01_from_scratch."""

    checkpoint: Checkpoint = "liqe-tiny"
    image: ExistingPath = ""
    steps: Annotated[int, Field(ge=3)] = 18
    learning_rate: Positive = 5e-4


class ConceptsParameters(SeededParameters, notebook="02_concepts"):
    """Parameters of notebook 02_concepts."""

    weights: str = ""


class DataParameters(SeededParameters, notebook="03_data_preparation"):
    """Parameters of notebook 03_data_preparation."""

    data_root: ExistingPath = ""
    labels_mirror: ExistingPath = ""
    fetch_labels: bool = False


class TrainingParameters(SeededParameters, notebook="04_multitask_training"):
    """Parameters of notebook 04_multitask_training."""

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
    """Parameters of notebook 05_ablations."""

    session: profiles.Session = 1
    brief_epochs: NonNegativeInt = 0
    brief_steps: PositiveInt = 6
    studies: Listed[Annotated[str, one_of(STUDIES)]] = Field(default=["variant"])
    test_crops: Listed[PositiveInt] = Field(default=[1, 5, 15])
    test_images: PositiveInt = 40
    wording: str = "a {quality} photo of a {scene} with {distortion}"


class OpenBenchmarkParameters(Parameters, notebook="06_open_benchmark"):
    """Parameters of notebook 06_open_benchmark."""

    profile: Annotated[str, one_of(profiles.PROFILES)] = "open-frozen"
    recompute: bool = False
    seeds: Listed[NonNegativeInt] = Field(default=[1, 2, 3, 4, 5])
    runs_root: str = ""


class GmadParameters(Parameters, notebook="07_gmad"):
    """Parameters of notebook 07_gmad."""

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
    """Parameters of notebook 08_realignment."""

    session: profiles.Session = 1
    noise: NotNegative = 0.15


class HalfPrecisionParameters(SeededParameters, notebook="09_half_precision"):
    """Parameters of notebook 09_half_precision."""

    profile: Annotated[str, one_of(profiles.PROFILES)] = "paper"
    architecture: str = "ViT-B-32-quickgelu"
    pretrained: str = ""
    learning_rate: Positive = 5e-6


class PaperTableParameters(SeededParameters, notebook="10_paper_tables"):
    """Parameters of notebook 10_paper_tables."""

    paper_runs: ExistingPath = ""
    checkpoint: Checkpoint = ""
    changes: Changes = Field(default={})
    session: profiles.Session = 1


class BenchmarkParameters(SeededParameters, notebook="90_benchmarks"):
    """Parameters of notebook 90_benchmarks."""

    architecture: str = "ViT-B-32-quickgelu"
    quick: bool = True
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    half: Literal["", "float16", "bfloat16"] = ""


def check_for(notebooks: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Parse and validate parameters before notebooks run, with the models of these notebooks.

    Raises:
        ParameterError: see `Parameters.check`; or none of the notebooks has a parameter of this name.
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
