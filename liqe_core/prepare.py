"""The data sets that a profile trains on, ready for `train.fit`."""

from __future__ import annotations

from liqe_core import mini, towers
from liqe_core.crops import CropGeometry
from liqe_core.datasets import LabelledPictures, load_pictures
from liqe_core.profiles import Profile

#: What ``smoke`` makes of the mini data set: seconds instead of a minute.
SMOKE_SELECTION = {
    "photographs": ("astronaut", "chelsea", "coffee", "china", "camera"),
    "kinds": (1, 8, 10, 11),
    "levels": (1, 3, 5),
    "size": (96, 72),
}


def sets_for(settings: Profile, progress: bool = True) -> list[LabelledPictures]:
    """Build or find every data set that the profile names.

    Raises:
        ValueError: a data set that has to be downloaded or registered for is not there; says what to do.
    """
    return [_set(name, settings, progress) for name in settings.batch_sizes]


def geometry_of(settings: Profile) -> CropGeometry:
    """The paper's crop geometry, with the window that the profile's architecture takes."""
    return CropGeometry(window=towers.architecture(settings.architecture)["vision_cfg"]["image_size"])


def _set(name: str, settings: Profile, progress: bool) -> LabelledPictures:
    if name == "mini":
        selection = SMOKE_SELECTION if settings.name == "smoke" else {}
        root, labels = mini.build(**selection, progress=progress)
        return LabelledPictures(
            name, labels, load_pictures(root, labels["image"], geometry_of(settings), progress)
        )
    raise ValueError(f"no way to prepare the data set {name!r} yet")
