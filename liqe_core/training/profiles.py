"""Named settings of training runs, in groups; every one can be overridden by its own name.

``smoke`` runs in seconds and means nothing, for tests; ``mini`` fine-tunes ``liqe-tiny`` on photographs that
every installation has, ``mini-scratch`` trains a smaller model on them from nothing; ``open`` makes
``liqe-tiny`` of data that anyone may download, ``open-frozen`` leaves the image tower as ImageNet made it, in
a minute; ``paper`` is the protocol of the public script over six datasets, its half-precision weights
included, ``paper-float32`` the same with weights that keep what each step adds.
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

#: Marks a setting that changes how a run is carried out and not its result: a run may resume with another.
HOW = Field(json_schema_extra={"decides": False})
#: Marks a setting that came later: it decides where it is not the default, so older runs keep their folder.
LATER = Field(json_schema_extra={"decides": "changed"})
Session = Annotated[int, Field(ge=1, le=10)]
#: A name of open_clip or a file.
Weights = Annotated[
    str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)
]


class DataSettings(Settings):
    """What is trained on.

    Attributes:
        batch_sizes: images of each dataset in a step, by the set's name.
        scene_words, distortion_words: words of your own in place of the paper's, with ``;`` between.
        stand_in: images that were distorted here (``open-distorted``) have the mean opinion of their
            distortion and level for a score; else they have none, and teach the distortion alone.
        resize_to: an image with both sides at least this long is shrunk until the shorter one is; the
            smaller, the more of an image a window sees, and the less of its fine faults. 0: never.
        enlarge: enlarge an image that is smaller than a crop, which otherwise is an error.
        overview: the whole image, squeezed into a crop, is looked at beside the windows (`CropGeometry`).
        vary: draw at random what must not tell the labels, in training and in testing: images without
            people's scores are now and then (one in eight) looked at in grey, where color is not their
            fault; those that were not distorted here either, at any size (`labelled.SIDES`).
        unfit: images that are missing, damaged or smaller than a crop are reported before the first step:
            ``refuse`` ends the run there; ``leave out`` verifies each set, and goes on without them, by name.
        truncated, sixteen_bit: as `images.read_image` takes them; the public loaders ``accept`` files that
            are cut short, and ``clip`` 16-bit images.
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
    """What is trained.

    Attributes:
        architecture, pretrained: as `LIQE.from_clip` takes them; `pretrained` empty: random weights.
        variant: which tasks, one of `prompts.VARIANTS`.
        template: the wording of the prompts, with a placeholder for each axis of the variant; empty: the
            paper's.
        freeze: a tower that does not train: ``text`` or ``image`` (the public code's opt 1 and 2), or none;
            ``all`` (its opt 3, which its own loop cannot run): no step is taken, and the weights that the run
            starts with are validated and tested.
        unlocked_groups: of a frozen image tower, how many groups of layers, counted from its end, train all
            the same (open_clip's ``lock_image_tower``; the projection of a timm tower always trains).
        batch_norm: ``frozen`` keeps the statistics that the weights came with: the public code trains in
            evaluation mode, which for CLIP's transformers is the same. ``learned`` is what a batch norm that
            starts from random weights needs.
        keep_windows: with a frozen image tower, compute its embeddings of the windows of testing, and of
            their mirror images, once, keep them, and train and test on them (`training.embeddings`).
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
    """What a step makes smaller.

    Attributes:
        control: what a gain over quality alone has to be held against: ``shuffled labels``, scenes and
            distortions given to other images of the same set's training part; ``quality alone``, all
            prompts, but only the quality loss; ``separate heads``, a linear head an axis in place of prompts.
        weighting: ``dwa`` or ``equal``. temperature: of dwa.
        quality_loss: ``fidelity`` of pairs, as in the paper, or the ``squared error`` of each prediction, the
            scores' scale laid over 1 to 5 (`losses.regression_loss`): what plain regression does.
        quality_weight, scene_weight: how many times its weight the loss of a task counts; 1 in the paper.
        plcc_weight: what one minus Pearson's correlation counts within the quality loss, whose pairs count
            one (`losses.plcc_loss`); 0 in the paper.
        pair_mean: the quality loss is the mean over ``sets`` of each set's mean over pairs, as in the public
            code, or the mean over all ``pairs``, as the paper is said to have it (not checked here).
        ties: of two equal scores, the first is taken to be preferred with probability one ``half``, as in the
            public code, or one: ``preferred``, being at least as good, as the paper is said to have it.
        lone_images: a dataset with one image in the batch has no pair: ``leave out`` takes the step
            without that set's quality loss; ``drop step``, as the public script, whose loss is then NaN,
            takes no step at all (column ``dropped`` of ``steps.csv``; not counted by `max_skipped`).
        spread: standard deviation of the difference of two perceived qualities (`losses.quality_loss`): 1 in
            the public code, sqrt(2) in the paper's Thurstone model.
        distortion_loss: ``fidelity``, or ``public``: in the variant quality+distortion the public script
            trains the scene loss on distortions (`losses.scene_loss`), and fidelity in the others.
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
    """How long and how fast.

    Attributes:
        epochs, steps: an epoch is that many optimiser steps.
        crops: windows an image in training.
        learning_rate, weight_decay: of AdamW.
        schedule: ``public`` is CosineAnnealingLR(T_max=5) an epoch, restarted; ``cosine`` falls to zero over
            the whole run, a step at a time, after `warmup_steps` of linear rise.
        warmup_steps: see `schedule`.
        max_skipped: batches with NaN or infinity are left out; the run stops at one more than so many.
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
    """What is validated and tested, and when.

    Attributes:
        windows: windows an image in testing.
        validate_every: epochs between validations.
        keep: ``best`` keeps the weights that did best in validation, as the public code does; ``last`` those
            of the last validation, where the validation part is too small to choose by.
        test_every: epochs between tests of the model as it then is; the public code tests every epoch. 0:
            only the checkpoints that are kept are tested, at the end.
        measured: images of a validation or test part that are evaluated, at most, drawn by chance once for
            all runs; 0: all of them.
        unseen_windows: what sets that were not trained on are tested on: ``even``ly spaced windows, or, in
            SPAQ, TID2013 and PIPAL, random ones, as their ``public`` loaders draw (`studies.paper_check`).
    """

    windows: PositiveInt = 15
    validate_every: PositiveInt = 1
    keep: Literal["best", "last"] = "best"
    test_every: NonNegativeInt = 0
    measured: NonNegativeInt = 0
    unseen_windows: Annotated[Literal["even", "public"], HOW] = "even"


class MachineSettings(Settings):
    """What it runs on, and with which numbers.

    Attributes:
        precision: ``float32``, or the type that products are computed in, the weights staying float32:
            ``bfloat16``, ``float16``. ``public``: after every step the weights themselves are rounded to half
            precision, and no float32 copy is kept, as in the public script on CUDA (`training.precision`).
            What is reported on the test parts is always computed in float32, but for what `keep_windows`
            keeps, which is computed once.
        tf32: let a GPU round the factors of float32 products to 10 bits; faster, not exact.
        compile: run both towers through torch.compile; pays where a run is long and steps are short.
        gradient_checkpointing: keep only the input of each block and compute the block again in the backward
            pass: less memory, about a third more arithmetic, the same numbers.
        device: ``auto`` is the GPU if there is one; or what torch calls one (``cpu``, ``cuda:1``).
        save_seconds: how much work an interruption may cost: the state of the run is saved at the first step
            after so many seconds, and when training ends. 0: after every step and epoch.
    """

    precision: Literal["float32", "bfloat16", "float16", "public"] = "float32"
    tf32: bool = False
    compile: bool = False
    gradient_checkpointing: Annotated[bool, HOW] = False
    device: Annotated[str, HOW] = "auto"
    save_seconds: Annotated[NotNegative, HOW] = 300.0


class Profile(Settings):
    """The settings of a training run. The defaults are the paper's protocol, with float32 weights.

    Attributes:
        name: of the profile. session: 1..10, which split. seed: initial weights, order of data, crops.
        data, model, losses, steps, testing, machine: see the class of each. No two of their settings share a
            name, so `override`, ``liqe train -s`` and a notebook's parameters name a setting alone.
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
            raise ValueError("keep_windows keeps windows, no overview: set one of the two to false")
        if self.model.keep_windows and self.machine.precision not in ("float32", "bfloat16"):
            raise ValueError(
                f"precision is {self.machine.precision!r}; keep_windows takes float32 or bfloat16"
            )
        lone = [dataset for dataset, size in self.data.batch_sizes.items() if size == 1]
        if self.losses.lone_images == "drop step" and lone:
            raise ValueError(
                f"lone_images='drop step' would drop every step, since the batch_sizes of "
                f"{', '.join(lone)} is 1; give at least 2, or lone_images='leave out'"
            )
        self.grid()  # a template that does not fit the variant is refused here, before any work
        return self

    def grid(self) -> PromptGrid:
        """The prompts: the variant's words, or those in their place, in the template's sentence."""
        grid = PromptGrid.variant(self.model.variant)
        own = {"scene": self.data.scene_words, "distortion": self.data.distortion_words}
        words: dict[str, Any] = {axis: own[axis].split(";") for axis in grid.axes if own.get(axis)}
        return dataclasses.replace(grid, **words, template=self.model.template)

    def override(self, **settings) -> Profile:
        """The same profile with some settings changed, each by its own name; None leaves one as it is.

        Raises:
            ValueError: an unknown setting or a value that cannot be.
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
        """Every setting by its own name."""
        return {name: value for name, value, _ in self._settings()}

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the result of a run, each by its own name."""
        return {name: value for name, value, decides in self._settings() if decides}

    def testing_settings(self) -> dict[str, Any]:
        """The settings that decide what weights as they are reach on a dataset."""
        shown = [name for name, group in GROUP_OF.items() if group in ("data", "testing")]
        return {name: value for name, value in self.deciding().items() if name in shown}

    def _settings(self) -> Iterator[tuple[str, Any, bool]]:
        for name, group in GROUP_OF.items():
            holder = getattr(self, group) if group else self
            field, value = type(holder).model_fields[name], getattr(holder, name)
            unchanged = field.json_schema_extra == {"decides": "changed"} and value == field.default
            yield name, value, not unchanged and field.json_schema_extra != {"decides": False}


#: The group of each setting, empty for those that stand outside of one.
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
    unlocked_groups=13,  # all but the stem and the first three blocks, half of the arithmetic
    batch_norm="learned",
    quality_weight=1.5,
    scene_weight=8.0,  # else its gradient on the tower is a tenth of each other one's
    plcc_weight=1.0,
    pair_mean="pairs",  # else the few stand-in scores of a step would weigh as much as people's
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
            windows=1,  # and the overview
            learning_rate=1e-4,
            warmup_steps=5,
            unlocked_groups=8,  # a step takes half the time that 13 take
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
            keep="last",  # two photographs are too few to choose by
        ),
        OPEN,
        OPEN.override(
            name="open-frozen",
            batch_sizes={"biq2021": 64},  # labels on the images that people scored, as the claim is
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
            precision="bfloat16",  # nearly twice as many windows a second; what is kept is rounded anyway
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
    """Which runs, by session and seed, and what they share: a line a group, without what is empty or not
    done."""
    lines = {"runs": ", ".join(f"session {run.session} from seed {run.seed}" for run in runs)}
    values = runs[0].flat()
    for group in dict.fromkeys(filter(None, GROUP_OF.values())):
        names = [name for name in values if GROUP_OF[name] == group]
        shown = [f"{name} {values[name]}" for name in names if values[name] not in ("", None, False)]
        lines[group] = ", ".join(shown)
    return lines


def profile(name: str, **settings) -> Profile:
    """A profile by name, with overrides; see `Profile.override`.

    Raises:
        ValueError: no such profile or setting.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name].override(**settings)
