"""Named profiles of training settings. Settings are in groups, and each can be overridden by its name.

- ``smoke`` is for tests: it takes seconds, and its results have no meaning.
- ``mini`` fine-tunes ``liqe-tiny`` on photographs in installed packages.
- ``mini-scratch`` trains a smaller model on them from scratch.
- ``open`` trains ``liqe-tiny`` on data that anyone can download.
- ``open-frozen`` keeps the ImageNet weights of the image tower frozen, and takes a minute.
- ``paper`` is the protocol of the public script on six datasets, with its half-precision weights.
- ``paper-float32`` is the same with float32 weights, which do not lose small updates.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from liqe_core.intake.settings import NotNegative, Positive, Settings, in_one_line, one_of
from liqe_core.prompts import VARIANTS, PromptGrid
from liqe_core.weighting import WEIGHTINGS

#: Marks a setting that does not affect the result of a run. A run can resume with another value.
HOW = Field(json_schema_extra={"decides": False})
#: Marks a setting that identifies a run only if it is not the default, so that older runs keep their folder.
LATER = Field(json_schema_extra={"decides": "changed"})
Session = Annotated[int, Field(ge=1, le=10)]
#: An open_clip weights tag or a file.
Weights = Annotated[
    str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)
]


class DataSettings(Settings):
    """The training data.

    Attributes:
        batch_sizes: number of images per step, by the name of the dataset.
        scene_words, distortion_words: words in place of the paper's, separated by ``;``.
        stand_in: use the mean opinion for the distortion and level as score of locally distorted images
            (``open-distorted``). If False, they have no score and only train the distortion.
        resize_to: an image with both sides at least this long is shrunk until the shorter side is this long.
            A window then covers more of the image, but fine distortions are weaker. 0: never.
        enlarge: enlarge images that are smaller than a crop; if False, they are an error.
        overview: add the whole image, resized to a crop, to the windows (`CropGeometry`).
        vary: randomise properties that must not reveal the labels, in training and testing. One in eight
            images without human scores is converted to grey, unless its distortion is color. Those that were
            not distorted locally are also resized to a random size (`labelled.SIDES`).
        unfit: what to do if images are missing, damaged or smaller than a crop, before the first step:
            ``refuse`` to train, or verify each dataset and ``leave out`` these images, with a list of names.
        truncated, sixteen_bit: see `images.read_image`. The public loaders ``accept`` truncated files and
            ``clip`` 16-bit images.
        fastfading: labels of LIVE's fast-fading images: as ``released``, or ``corrected``
            (`labels.correct_fastfading`).
    """

    batch_sizes: dict[str, PositiveInt] = Field(
        default={"live": 4, "csiq": 4, "bid": 4, "clive": 4, "koniq10k": 16, "kadid10k": 16}, min_length=1
    )
    scene_words: str = ""
    distortion_words: str = ""
    stand_in: bool = True
    resize_to: NonNegativeInt = 768
    enlarge: bool = False
    overview: bool = False
    vary: bool = False
    unfit: Annotated[Literal["refuse", "leave out"], HOW] = "refuse"
    truncated: Annotated[Literal["refuse", "accept"], LATER] = "refuse"
    sixteen_bit: Annotated[Literal["scale", "clip"], LATER] = "scale"
    fastfading: Annotated[Literal["released", "corrected"], LATER] = "released"

    @property
    def reading(self) -> dict[str, str]:
        """The options of `images.read_image` that are not its defaults."""
        options = {"truncated": self.truncated, "sixteen_bit": self.sixteen_bit}
        return {name: value for name, value in options.items() if value in ("accept", "clip")}


class ModelSettings(Settings):
    """The model and the weights that train.

    Attributes:
        architecture, pretrained: see `LIQE.from_clip`; an empty `pretrained` means random weights.
        variant: the tasks, one of `prompts.VARIANTS`.
        template: template of the prompts, with a placeholder for each axis of the variant; empty: the
            paper's.
        freeze: the frozen tower: ``text`` or ``image`` (the public code's opt 1 and 2); empty: none. ``all``
            (its opt 3, which the public loop cannot run) takes no step, but validates and tests the initial
            weights.
        unlocked_groups: number of layer groups at the end of a frozen image tower that train nevertheless
            (open_clip's ``lock_image_tower``). The projection of a timm tower always trains.
        batch_norm: ``frozen`` keeps the statistics of the initial weights. The public code trains in
            evaluation mode, which is equivalent for CLIP's transformers. ``learned`` updates the statistics,
            which batch norms with random initial weights need.
        keep_windows: with a frozen image tower, compute its features of the testing windows and their
            horizontal flips once, and train and test on the cached features (`training.embeddings`).
    """

    architecture: str = "ViT-B-32-quickgelu"
    pretrained: Weights = "openai"
    variant: Annotated[str, one_of(VARIANTS)] = VARIANTS[-1]
    template: str = ""
    freeze: Literal["", "text", "image", "all"] = ""
    unlocked_groups: NonNegativeInt = 0
    batch_norm: Literal["frozen", "learned"] = "frozen"
    keep_windows: bool = False


class LossSettings(Settings):
    """The losses and their weights.

    Attributes:
        control: a control experiment for the gain of the auxiliary tasks. ``shuffled labels`` permutes the
            scene and distortion labels within the training part of each dataset. ``quality alone`` uses all
            prompts, but only the quality loss. ``separate heads`` replaces the prompts by one linear head per
            axis.
        weighting: ``dwa`` or ``equal``.
        temperature: temperature of dwa.
        quality_loss: ``fidelity`` of pairs, as in the paper, or ``squared error`` of the predictions, with
            the scores scaled to 1 to 5 (`losses.regression_loss`), as in plain regression.
        quality_weight, scene_weight: factor on the weight of a task loss; 1 in the paper.
        plcc_weight: weight of one minus Pearson's correlation (`losses.plcc_loss`) within the quality loss,
            relative to the loss on pairs; 0 in the paper.
        pair_mean: average the quality loss over the pairs of each dataset and then over ``sets``, as in the
            public code, or over all ``pairs``, as reported for the paper (not checked here).
        ties: probability that the first of two equal scores is preferred: 0.5 (``half``), as in the public
            code, or 1 (``preferred``), as reported for the paper (not checked here).
        lone_images: how to treat a dataset with a single image in the batch, and therefore without a pair:
            ``leave out`` takes the step without the quality loss of this dataset; ``drop step`` takes no
            step, like the public script, whose loss is then NaN (column ``dropped`` of ``steps.csv``; not
            counted for `max_skipped`).
        spread: standard deviation of the difference of two perceived qualities (`losses.quality_loss`): 1 in
            the public code, sqrt(2) in the paper's Thurstone model.
        distortion_loss: ``fidelity``, or ``public``: like the public script, use the scene loss on
            distortions (`losses.scene_loss`) in the variant quality+distortion, and fidelity in the others.
    """

    control: Literal["", "shuffled labels", "quality alone", "separate heads"] = ""
    weighting: Annotated[str, one_of(WEIGHTINGS)] = "dwa"
    temperature: Positive = 2.0
    quality_loss: Literal["fidelity", "squared error"] = "fidelity"
    quality_weight: Positive = 1.0
    scene_weight: Positive = 1.0
    plcc_weight: NotNegative = 0.0
    pair_mean: Literal["sets", "pairs"] = "sets"
    ties: Literal["half", "preferred"] = "half"
    lone_images: Literal["leave out", "drop step"] = "leave out"
    spread: Annotated[Positive, LATER] = 1.0
    distortion_loss: Annotated[Literal["fidelity", "public"], LATER] = "fidelity"


class StepSettings(Settings):
    """The length of training and the optimiser.

    Attributes:
        epochs: number of epochs.
        steps: optimiser steps per epoch.
        crops: windows per image in training.
        learning_rate, weight_decay: of AdamW.
        schedule: ``public`` is CosineAnnealingLR(T_max=5) per epoch with restarts. ``cosine`` decreases to
            zero over the whole run, updated at each step, after a linear increase over `warmup_steps`.
        warmup_steps: see `schedule`.
        max_skipped: maximum number of batches with NaN or infinity, which are skipped. The run stops if there
            are more.
    """

    epochs: PositiveInt = 80
    steps: PositiveInt = 200
    crops: PositiveInt = 3
    learning_rate: Positive = 5e-6
    weight_decay: NotNegative = 1e-3
    schedule: Literal["public", "cosine"] = "public"
    warmup_steps: NonNegativeInt = 0
    max_skipped: Annotated[NonNegativeInt, HOW] = 10


class TestingSettings(Settings):
    """Validation and testing.

    Attributes:
        windows: windows per image in testing.
        validate_every: epochs between validations.
        keep: ``best`` keeps the checkpoints that are best in validation, like the public code. ``last`` keeps
            those of the last validation, for validation parts that are too small for a selection.
        test_every: epochs between tests of the current model. The public code tests every epoch. 0: test only
            the kept checkpoints, at the end.
        measured: maximum number of images to evaluate in a validation or test part, drawn at random once for
            all runs; 0: all images.
        unseen_windows: windows for testing datasets that were not trained on: ``even`` for evenly spaced
            windows; ``public`` for random windows in SPAQ, TID2013 and PIPAL, as in their public loaders
            (`studies.paper_check`).
    """

    windows: PositiveInt = 15
    validate_every: PositiveInt = 1
    keep: Literal["best", "last"] = "best"
    test_every: NonNegativeInt = 0
    measured: NonNegativeInt = 0
    unseen_windows: Annotated[Literal["even", "public"], HOW] = "even"


class MachineSettings(Settings):
    """Device, precision and saving.

    Attributes:
        precision: ``float32``; or ``bfloat16`` or ``float16``, the dtype of products with float32 weights; or
            ``public``, which rounds the weights themselves to half precision after every step and keeps no
            float32 copy, like the public script on CUDA (`training.precision`). Test results are always
            computed in float32, except for the features cached by `keep_windows`.
        tf32: let a GPU round the factors of float32 products to 10 bits, which is faster but not exact.
        compile: compile both towers with torch.compile, which is worthwhile for long runs with short steps.
        gradient_checkpointing: store only the input of each block and recompute the block in the backward
            pass. This needs less memory and about a third more arithmetic, and gives the same numbers.
        device: ``auto`` for a GPU if there is one, or a device name of torch (``cpu``, ``cuda:1``).
        save_seconds: seconds between saved states, the maximum loss by an interruption. The state is saved at
            the first step after this time and at the end of training. 0: after every step and epoch.
    """

    precision: Literal["float32", "bfloat16", "float16", "public"] = "float32"
    tf32: bool = False
    compile: bool = False
    gradient_checkpointing: Annotated[bool, HOW] = False
    device: Annotated[str, HOW] = "auto"
    save_seconds: Annotated[NotNegative, HOW] = 300.0


class Profile(Settings):
    """The settings of a training run. The defaults are the paper's protocol with float32 weights.

    Attributes:
        name: name of the profile.
        session: index of the split, 1..10.
        seed: seed of the initial weights, the order of the data, and the crops.
        data, model, losses, steps, testing, machine: see their classes. The names of all settings are unique,
            so `override`, ``liqe train -s`` and notebook parameters do not need the group.
    """

    name: str
    session: Session = 1
    seed: NonNegativeInt = 20200626
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    losses: LossSettings = LossSettings()
    steps: StepSettings = StepSettings()
    testing: TestingSettings = TestingSettings()
    machine: MachineSettings = MachineSettings()

    @model_validator(mode="after")
    def _check_together(self) -> Profile:
        if self.model.keep_windows and (self.model.freeze != "image" or self.model.unlocked_groups):
            raise ValueError("keep_windows needs freeze='image' and no unlocked_groups")
        if self.model.keep_windows and self.data.overview:
            raise ValueError("keep_windows does not support overview: set one of the two to false")
        if self.model.keep_windows and self.machine.precision not in ("float32", "bfloat16"):
            raise ValueError(
                f"precision is {self.machine.precision!r}; keep_windows supports float32 or bfloat16"
            )
        lone = [dataset for dataset, size in self.data.batch_sizes.items() if size == 1]
        if self.losses.lone_images == "drop step" and lone:
            raise ValueError(
                f"lone_images='drop step' would drop every step, because batch_sizes of "
                f"{', '.join(lone)} is 1; give batch_sizes from 2, or lone_images='leave out'"
            )
        self.grid()  # raises for a template that does not match the variant
        return self

    def grid(self) -> PromptGrid:
        """Return the prompts of the variant, with the custom words and template of the settings."""
        grid = PromptGrid.variant(self.model.variant)
        own = {"scene": self.data.scene_words, "distortion": self.data.distortion_words}
        words: dict[str, Any] = {axis: own[axis].split(";") for axis in grid.axes if own.get(axis)}
        return dataclasses.replace(grid, **words, template=self.model.template)

    def override(self, **settings) -> Profile:
        """Return the profile with some settings changed by name; a setting with the value None is unchanged.

        Raises:
            ValueError: if a setting is unknown or a value is invalid.
        """
        if unknown := sorted(set(settings) - set(GROUP_OF)):
            raise ValueError(
                f"unknown setting {', '.join(unknown)}; choose from {', '.join(sorted(GROUP_OF))}"
            )
        values = self.model_dump()
        for name, value in settings.items():
            if value is not None:
                (values[GROUP_OF[name]] if GROUP_OF[name] else values)[name] = value
        try:
            return Profile.model_validate(values)
        except ValidationError as error:
            raise ValueError(f"profile {values['name']}: {in_one_line(error)}") from None

    def flat(self) -> dict[str, Any]:
        """Return all settings by name."""
        return {name: value for name, value, _ in self._settings()}

    def deciding(self) -> dict[str, Any]:
        """Return the settings that determine the result of a run, by name."""
        return {name: value for name, value, decides in self._settings() if decides}

    def testing_settings(self) -> dict[str, Any]:
        """Return the settings that determine the result of testing fixed weights on a dataset, by name."""
        shown = [name for name, group in GROUP_OF.items() if group in ("data", "testing")]
        return {name: value for name, value in self.deciding().items() if name in shown}

    def _settings(self) -> Iterator[tuple[str, Any, bool]]:
        for name, group in GROUP_OF.items():
            holder = getattr(self, group) if group else self
            field, value = type(holder).model_fields[name], getattr(holder, name)
            unchanged = field.json_schema_extra == {"decides": "changed"} and value == field.default
            yield name, value, not unchanged and field.json_schema_extra != {"decides": False}


#: The group of each setting; empty for settings outside of a group.
GROUP_OF = {
    name: group if isinstance(info.default, Settings) else ""
    for group, info in Profile.model_fields.items()
    for name in (type(info.default).model_fields if isinstance(info.default, Settings) else [group])
}

BASE = Profile(name="paper-float32")

OPEN = BASE.override(
    name="open",
    architecture="LIQE-tiny",
    pretrained="imagenet",
    batch_sizes={"biq2021": 28, "open-distorted": 16, "scenes": 16},
    session=4,
    overview=True,
    vary=True,
    epochs=10,
    steps=160,
    crops=1,
    windows=4,
    measured=400,
    enlarge=True,
    learning_rate=5e-4,
    schedule="cosine",
    warmup_steps=100,
    freeze="image",
    unlocked_groups=13,  # all but the stem and the first three blocks, which are half of the arithmetic
    batch_norm="learned",
    quality_weight=1.5,
    scene_weight=8.0,  # with 1, its gradient on the tower would be a tenth of each other task's
    plcc_weight=1.0,
    pair_mean="pairs",  # with "sets", the few substitute scores would weigh as much as human scores
    validate_every=5,
    keep="last",
)

PROFILES = {
    profile.name: profile
    for profile in (
        BASE.override(
            name="smoke",
            architecture="LIQE-smoke",
            pretrained="",
            batch_sizes={"mini": 6},
            epochs=3,
            steps=3,
            learning_rate=1e-3,
            schedule="cosine",
        ),
        OPEN.override(
            name="mini",
            pretrained="liqe-tiny",
            batch_sizes={"mini": 16},
            session=1,
            vary=False,
            epochs=4,
            steps=8,
            windows=1,  # plus the overview
            learning_rate=1e-4,
            warmup_steps=5,
            unlocked_groups=8,  # halves the time of a step with 13 groups
            batch_norm="frozen",
            quality_weight=1.0,
            scene_weight=1.0,
            plcc_weight=0.0,
            validate_every=2,
            measured=150,
        ),
        BASE.override(
            name="mini-scratch",
            architecture="LIQE-mini",
            pretrained="",
            batch_sizes={"mini": 32},
            epochs=40,
            steps=100,
            crops=1,
            learning_rate=2e-3,
            schedule="cosine",
            warmup_steps=20,
            batch_norm="learned",
            validate_every=10,
            measured=200,
            keep="last",  # the two validation photographs are too few for a selection
        ),
        OPEN,
        OPEN.override(
            name="open-frozen",
            batch_sizes={"biq2021": 64},  # all labels are on images with human scores
            overview=False,
            steps=100,
            windows=2,
            measured=0,
            learning_rate=1e-3,
            warmup_steps=50,
            unlocked_groups=0,
            quality_weight=1.0,
            scene_weight=1.0,
            plcc_weight=0.0,
            keep_windows=True,
            precision="bfloat16",  # nearly twice as fast, and the cached features are rounded anyway
            keep="best",
        ),
        BASE.override(
            name="paper",
            lone_images="drop step",
            distortion_loss="public",
            unseen_windows="public",
            precision="public",
        ),
        BASE,
    )
}


def in_groups(runs: Sequence[Profile]) -> dict[str, str]:
    """Describe runs that differ only in session and seed.

    Returns:
        One line for the runs, and one for each group of their common settings, without empty and disabled
        settings.
    """
    lines = {"runs": ", ".join(f"session {run.session} with seed {run.seed}" for run in runs)}
    values = runs[0].flat()
    for group in dict.fromkeys(filter(None, GROUP_OF.values())):
        names = [name for name in values if GROUP_OF[name] == group]
        shown = [f"{name} {values[name]}" for name in names if values[name] not in ("", None, False)]
        lines[group] = ", ".join(shown)
    return lines


def profile(name: str, **settings) -> Profile:
    """Return a profile by name, with overrides; see `Profile.override`.

    Raises:
        ValueError: if the profile or a setting is unknown, or a value is invalid.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name].override(**settings)
