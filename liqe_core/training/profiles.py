"""Named settings. A profile is plain values; every one can be overridden from a notebook parameter.

``smoke`` runs in seconds and means nothing, for tests; ``mini`` fine-tunes ``liqe-tiny`` on photographs that
every installation has, ``mini-scratch`` trains a smaller model on them from nothing; ``open``, and, each
going on from the one before, ``open-second`` and ``open-third`` make ``liqe-tiny`` of data that anyone may
download, ``open-frozen`` leaves the image tower as ImageNet made it, in a minute; ``paper`` is the protocol
of the public script over six data sets, its half-precision weights included, ``paper-float32`` the same with
weights that keep what each step adds.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from liqe_core.prompts import VARIANTS, PromptGrid
from liqe_core.weighting import WEIGHTINGS

#: What a setting may be, and the least that one may be.
CHOICES: dict[str, tuple[str, ...]] = {
    "variant": VARIANTS,
    "schedule": ("public", "cosine"),
    "batch_norm": ("frozen", "learned"),
    "weighting": tuple(WEIGHTINGS),
    "keep": ("best", "last"),
    "precision": ("float32", "bfloat16", "float16", "public"),
    "freeze": ("", "text", "image", "all"),
    "lone_pictures": ("leave out", "drop step"),
    "pair_mean": ("sets", "pairs"),
    "ties": ("half", "preferred"),
    "quality_loss": ("fidelity", "squared error"),
    "unseen_windows": ("even", "public"),
    "unfit": ("refuse", "leave out"),
    "control": ("", "shuffled labels", "quality alone", "separate heads"),
}
LEAST = {
    "epochs": 1,
    "steps": 1,
    "crops": 1,
    "windows": 1,
    "unlocked_groups": 0,
    "validate_every": 1,
    "test_every": 0,
    "measured": 0,
    "resize_to": 0,
    "warmup_steps": 0,
}
LEAST |= {"weight_decay": 0, "plcc_weight": 0, "seed": 0, "save_seconds": 0, "max_skipped": 0}


def _is(*kinds: type) -> Callable[[object], bool]:
    """Whether a value is of one of those kinds; what is true or false is no number."""
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


#: What a setting of a type is to be, in words, and whether a value is.
KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", _is(bool)),
    int: ("a whole number", _is(int)),
    float: ("a number", _is(int, float)),
    str: ("text", _is(str)),
    str | None: ("text", _is(str, os.PathLike, type(None))),
    Mapping[str, int]: (
        "a whole number for each data set, by its name",
        lambda value: isinstance(value, Mapping) and all(map(_is(int), value.values())),
    ),
}

#: Settings that change how a run is carried out and not what comes out of it: a run may go on with others.
HOW = ("device", "gradient_checkpointing", "save_seconds", "max_skipped", "unseen_windows", "unfit")

#: Settings that runs before 2026-11-26 do not name, and what they did: such a run is still found and gone on
#: with, since a setting that has this value does not count as one that decides.
ADDED = {
    "lone_pictures": "leave out",
    "pair_mean": "sets",
    "ties": "half",
    "unseen_windows": "even",
    "quality_weight": 1.0,
    "plcc_weight": 0.0,
    "quality_loss": "fidelity",
    "unfit": "refuse",
    "scene_words": "",
    "distortion_words": "",
    "measured": 0,
    "resize_to": 768,
}


@dataclasses.dataclass(frozen=True)
class Profile:
    """The settings of a training run.

    Attributes:
        architecture, pretrained: as `LIQE.from_clip` takes them.
        batch_sizes: pictures of each data set in a step, by the set's name.
        variant: which tasks, one of `prompts.VARIANTS`.
        template: the wording of the prompts, with a placeholder for each axis of the variant; empty: the
            paper's.
        scene_words, distortion_words: words of your own in place of the paper's, with ``;`` between.
        epochs, steps: an epoch is that many optimiser steps.
        crops: windows a picture in training.
        windows: windows a picture in testing.
        resize_to: a picture with both sides at least this long is shrunk until the shorter one is; the
            smaller, the more of a picture a window sees, and the less of its fine faults. 0: never.
        enlarge: enlarge a picture that is smaller than a crop, which otherwise is an error.
        unfit: pictures that are missing, damaged or smaller than a crop are told before the first step:
            ``refuse`` ends the run there; ``leave out`` verifies each set, and goes on without them, by name.
        stand_in: pictures that were distorted here (``open-distorted``) have the mean opinion of their
            distortion and level for a score; else they have none, and teach the distortion alone.
        learning_rate, weight_decay: of AdamW.
        schedule: ``public`` is CosineAnnealingLR(T_max=5) an epoch, restarted; ``cosine`` falls to zero over
            the whole run, a step at a time, after `warmup_steps` of linear rise.
        warmup_steps: see `schedule`.
        batch_norm: ``frozen`` keeps the statistics that the weights came with: the public code trains in
            evaluation mode, which for CLIP's transformers is the same. ``learned`` is what a batch norm that
            starts from random weights needs.
        weighting: ``dwa`` or ``equal``. temperature: of dwa.
        quality_loss: ``fidelity`` of pairs, as in the paper, or the ``squared error`` of each prediction, the
            scores' scale laid over 1 to 5 (`losses.regression_loss`): what plain regression does.
        quality_weight: how many times its weight the quality loss counts; 1 in the paper.
        plcc_weight: what one minus Pearson's correlation counts within the quality loss, whose pairs count
            one (`losses.plcc_loss`); 0 in the paper.
        session: 1..10, which split. seed: initial weights, order of data, crops.
        validate_every: epochs between validations.
        keep: ``best`` keeps the weights that did best in validation, as the public code does; ``last`` those
            of the last validation, where the validation part is too small to choose by.
        test_every: epochs between tests of the model as it then is; the public code tests every epoch. 0:
            only the checkpoints that are kept are tested, at the end.
        measured: pictures of a validation or test part that are looked at, at most, drawn by chance once for
            all runs; 0: all of them.
        freeze: a tower that does not train: ``text`` or ``image`` (the public code's opt 1 and 2), or none;
            ``all`` (its opt 3, which its own loop cannot run): no step is taken, and the weights that the run
            starts with are validated and tested.
        lone_pictures: a data set with one picture in the batch has no pair: ``leave out`` takes the step
            without that set's quality loss; ``drop step``, as the public script, whose loss is then NaN,
            takes no step at all (column ``dropped`` of ``steps.csv``; not counted by `max_skipped`).
        pair_mean: the quality loss is the mean over ``sets`` of each set's mean over pairs, as in the public
            code, or the mean over all ``pairs``, as the paper is said to have it (not checked here).
        ties: of two equal scores, the first is taken to be preferred with probability one ``half``, as in the
            public code, or one: ``preferred``, being at least as good, as the paper is said to have it.
        unseen_windows: what sets that were not trained on are tested on: ``even``ly spaced windows, or, in
            SPAQ, TID2013 and PIPAL, random ones, as their ``public`` loaders draw (`studies.paper_check`).
        unlocked_groups: of a frozen image tower, how many groups of layers, counted from its end, train all
            the same (open_clip's ``lock_image_tower``; the projection of a timm tower always trains).
        keep_windows: with a frozen image tower, compute what it says of the windows of testing, and of their
            mirror images, once, keep it, and train and test on that (`training.embeddings`).
        control: what a gain over quality alone has to be held against: ``shuffled labels``, scenes and
            distortions given to other pictures of the same set's training part; ``quality alone``, all
            prompts, but only the quality loss; ``separate heads``, a linear head an axis in place of prompts.
        precision: ``float32``, or the type that products are computed in, the weights staying float32:
            ``bfloat16``, ``float16``. ``public``: after every step the weights themselves are rounded to half
            precision, and no float32 copy is kept, as in the public script on CUDA (`training.precision`).
            What is reported on the test parts is always computed in float32, but for what `keep_windows`
            keeps, which is computed once.
        tf32: let a GPU round the factors of float32 products to 10 bits; faster, not exact.
        compile: run both towers through torch.compile; pays where a run is long and steps are short.
        gradient_checkpointing: keep only the input of each block and compute the rest again on the way back:
            less memory, about a third more arithmetic, the same numbers.
        device: ``auto`` is the GPU if there is one; or what torch calls one (``cpu``, ``cuda:1``).
        save_seconds: how much work an interruption may cost: the state of the run is saved at the first step
            after so many seconds, and when training ends. 0: after every step and epoch.
        max_skipped: batches with NaN or infinity are left out; the run stops at one more than so many.
    """

    name: str
    architecture: str
    pretrained: str | None
    batch_sizes: Mapping[str, int]
    variant: str = VARIANTS[-1]
    template: str = ""
    scene_words: str = ""
    distortion_words: str = ""
    epochs: int = 80
    steps: int = 200
    crops: int = 3
    windows: int = 15
    resize_to: int = 768
    enlarge: bool = False
    unfit: str = "refuse"
    stand_in: bool = True
    learning_rate: float = 5e-6
    weight_decay: float = 1e-3
    schedule: str = "public"
    warmup_steps: int = 0
    batch_norm: str = "frozen"
    weighting: str = "dwa"
    temperature: float = 2.0
    quality_loss: str = "fidelity"
    quality_weight: float = 1.0
    plcc_weight: float = 0.0
    session: int = 1
    seed: int = 20200626
    validate_every: int = 1
    keep: str = "best"
    test_every: int = 0
    measured: int = 0
    freeze: str = ""
    unlocked_groups: int = 0
    keep_windows: bool = False
    control: str = ""
    lone_pictures: str = "leave out"
    pair_mean: str = "sets"
    ties: str = "half"
    unseen_windows: str = "even"
    precision: str = "float32"
    tf32: bool = False
    compile: bool = False
    gradient_checkpointing: bool = False
    device: str = "auto"
    save_seconds: float = 300.0
    max_skipped: int = 10

    def __post_init__(self) -> None:
        for field, kind in get_type_hints(Profile).items():
            words, fits = KINDS[kind]
            if not fits(getattr(self, field)):
                raise ValueError(f"{self.name}: {field} is {getattr(self, field)!r}; give {words}")
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                words = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"{self.name}: {field} is {getattr(self, field)!r}; choose one of {words}")
        for field, least in LEAST.items():
            if not least <= getattr(self, field) < math.inf:
                raise ValueError(
                    f"{self.name}: {field} is {getattr(self, field)!r}; give a number from {least}"
                )
        for field in ("learning_rate", "quality_weight", "temperature"):
            if not 0 < getattr(self, field) < math.inf:
                value = getattr(self, field)
                raise ValueError(f"{self.name}: {field} is {value!r}; give a positive number")
        if self.session not in range(1, 11):
            raise ValueError(f"{self.name}: session is {self.session!r}; choose from 1 to 10")
        if not self.batch_sizes:
            raise ValueError(f"{self.name}: batch_sizes is empty; name at least one data set")
        if wrong := [name for name, size in self.batch_sizes.items() if not size >= 1]:
            raise ValueError(f"{self.name}: batch_sizes of {', '.join(wrong)} is below 1; leave the set out")
        if self.keep_windows and (self.freeze != "image" or self.unlocked_groups):
            raise ValueError(f"{self.name}: keep_windows needs freeze='image' and no unlocked_groups")
        if self.keep_windows and self.precision not in ("float32", "bfloat16"):
            raise ValueError(
                f"{self.name}: precision is {self.precision!r}; keep_windows takes float32 or bfloat16"
            )
        if self.lone_pictures == "drop step" and (
            alone := [name for name, size in self.batch_sizes.items() if size == 1]
        ):
            raise ValueError(
                f"{self.name}: lone_pictures='drop step' would drop every step, since the batch_sizes of "
                f"{', '.join(alone)} is 1; give at least 2, or lone_pictures='leave out'"
            )
        self.grid()  # a template that does not fit the variant is refused here, before any work

    def grid(self) -> PromptGrid:
        """The prompts: the variant's words, or those in their place, in the template's sentence."""
        grid = PromptGrid.variant(self.variant)
        given = {"scene": self.scene_words, "distortion": self.distortion_words}
        own: dict[str, Any] = {a: text.split(";") for a, text in given.items() if text and a in grid.axes}
        return dataclasses.replace(grid, **own, template=self.template)

    def override(self, **settings) -> Profile:
        """The same profile with some settings changed; None leaves one as it is.

        Raises:
            ValueError: an unknown setting or a value that cannot be.
        """
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := sorted(set(settings) - known):
            raise ValueError(f"unknown setting {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
        return dataclasses.replace(self, **{k: v for k, v in settings.items() if v is not None})

    def deciding(self) -> dict:
        """As `to_dict`, without the settings of `HOW`: what decides what comes out of a run."""
        return {n: v for n, v in self.to_dict().items() if n not in HOW and (n, v) not in ADDED.items()}

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dataclasses.asdict(self) | {"batch_sizes": dict(self.batch_sizes)}


OPEN = Profile(
    name="open",
    architecture="LIQE-tiny",
    pretrained="imagenet",
    batch_sizes={"biq2021": 24, "open-distorted": 14, "open-scenes": 10},
    epochs=20,
    steps=130,
    crops=1,
    windows=9,
    enlarge=True,
    learning_rate=5e-4,
    schedule="cosine",
    warmup_steps=100,
    freeze="image",
    unlocked_groups=13,  # all but the stem and the first three blocks, half of the arithmetic
    validate_every=10,
)

PAPER = Profile(
    name="paper",
    architecture="ViT-B-32-quickgelu",
    pretrained="openai",
    batch_sizes={"live": 4, "csiq": 4, "bid": 4, "clive": 4, "koniq10k": 16, "kadid10k": 16},
    lone_pictures="drop step",
    unseen_windows="public",
    precision="public",
)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            architecture="LIQE-smoke",
            pretrained=None,
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
            epochs=4,
            steps=8,
            windows=2,
            learning_rate=1e-4,
            warmup_steps=5,
            unlocked_groups=8,  # a step takes half the time that 13 take
            validate_every=2,
            measured=150,
            keep="last",  # two photographs are too few to choose by
        ),
        Profile(
            name="mini-scratch",
            architecture="LIQE-mini",
            pretrained=None,
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
            name="open-second",  # -p pretrained FILE: a checkpoint of `open`, which it goes on from
            batch_sizes={"biq2021": 32, "open-distorted": 12, "open-scenes": 4},
            epochs=4,
            steps=650,
            windows=15,
            learning_rate=1.5e-4,
            quality_weight=6.0,
            validate_every=2,
        ),
        OPEN.override(
            name="open-third",  # from a checkpoint of `open-second`, with the whole image tower
            batch_sizes={"biq2021": 32, "open-distorted": 8, "open-scenes": 3},
            epochs=3,
            steps=500,
            windows=15,
            learning_rate=4e-4,
            warmup_steps=60,
            freeze="",
            unlocked_groups=0,
            batch_norm="learned",
            quality_weight=10.0,
            plcc_weight=1.0,
            pair_mean="pairs",  # else the few stand-in scores of a step would weigh as much as people's
            validate_every=3,
            keep="last",
        ),
        OPEN.override(
            name="open-frozen",
            batch_sizes={"biq2021": 64, "open-distorted": 48, "open-scenes": 32},
            epochs=10,
            steps=100,
            windows=2,
            learning_rate=1e-3,
            warmup_steps=50,
            unlocked_groups=0,
            keep_windows=True,
            precision="bfloat16",  # nearly twice as many windows a second; what is kept is rounded anyway
            validate_every=5,
        ),
        PAPER,
        PAPER.override(
            name="paper-float32", lone_pictures="leave out", unseen_windows="even", precision="float32"
        ),
    )
}


#: The settings by what they are about, for a reader.
GROUPS = {
    "data": "batch_sizes scene_words distortion_words stand_in resize_to enlarge unfit",
    "model": "architecture pretrained variant template freeze unlocked_groups batch_norm keep_windows",
    "losses": "control weighting temperature quality_loss quality_weight plcc_weight pair_mean ties "
    "lone_pictures",
    "steps": "epochs steps crops learning_rate weight_decay schedule warmup_steps max_skipped",
    "testing": "windows validate_every keep test_every measured unseen_windows",
    "machine": "precision tf32 compile gradient_checkpointing device save_seconds",
}


def in_groups(runs: Sequence[Profile]) -> dict[str, str]:
    """Which runs, by session and seed, and what they share: a line for each of `GROUPS`, without what is
    empty or not done."""
    told = {"runs": ", ".join(f"session {run.session} from seed {run.seed}" for run in runs)}
    for group, fields in GROUPS.items():
        values = {field: getattr(runs[0], field) for field in fields.split()}
        values = {field: dict(v) if isinstance(v, Mapping) else v for field, v in values.items()}
        told[group] = ", ".join(f"{n} {v}" for n, v in values.items() if v not in ("", None, False))
    return told


def completed(settings: Mapping) -> dict:
    """The settings that an older run folder names, with what it did where it names none; see `ADDED`."""
    return ADDED | dict(settings)


def profile(name: str, **settings) -> Profile:
    """A profile by name, with overrides; see `Profile.override`.

    Raises:
        ValueError: no such profile or setting.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name].override(**settings)
