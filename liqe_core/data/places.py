"""Which files of an archive go where: the field `take` of a manifest, carried out.

An archive that somebody else made has other folders than the label files say, more pictures than they name,
or two pictures of the same name. What is taken, and by what it is recognised, stands in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from liqe_core.data.finding import some
from liqe_core.intake.hub import FetchError

Parts = tuple[str, ...]


class PicturesLackingError(FetchError):
    """An archive without pictures that the labels name."""


def places(
    archive: str,
    names: Sequence[Parts],
    take: Iterable[Mapping[str, str]],
    images: Iterable[str] | None,
) -> dict[Parts, Parts]:
    """Where each wanted file of an archive goes, relative to the data set's folder.

    Args:
        archive: its name, for messages.
        names: the path of every file in it.
        take: rules; the first that fits a file decides. ``from``: a folder of the archive, or a file, with
            ``.`` for all of it; ``to``: where in the data set that goes, ``.`` where left out; ``match``:
            ``path``, the path below is kept (upper and lower case may differ from the labels'), or ``name``,
            the file goes to where the labels have a picture of its base name.
        images: the pictures that the labels name: no other file of a folder is taken. None: not known before
            the archive is unpacked; whole folders are taken.

    Returns:
        Path in the archive -> path in the data set.

    Raises:
        FetchError: nothing lies where a rule says (lists what does), two files would go to the same place, or
            pictures are matched by a name that several have.
    """
    rules = [_Rule(archive, rule, images) for rule in take]
    found: dict[Parts, Parts] = {}
    taken: dict[Parts, Parts] = {}
    for name in names:
        rule = next((rule for rule in rules if rule.fits(name)), None)
        to = rule.place(name) if rule else None
        if to is None:
            continue
        if to in taken:
            raise FetchError(
                f"{archive}: {'/'.join(taken[to])} and {'/'.join(name)} would both be {'/'.join(to)}; it is "
                "another archive than the manifest's `take` is for, unpack it by hand"
            )
        taken[to], found[name] = name, to
    for rule in rules:
        if not rule.used:
            tops = sorted({"/".join(name[:2]) if len(name) > 2 else name[0] for name in names})
            raise FetchError(
                f"{archive}: no {'/'.join(rule.source)} in it ({some(tops)}); it is another archive than "
                "the manifest's `take` is for: correct that, or unpack it by hand"
            )
    return found


def refuse_lacking(archive: str, images: Iterable[str], there: Iterable[str], where: str) -> None:
    """Raise when pictures that the labels name are not among those there are.

    Raises:
        PicturesLackingError: with the count, the first five names, and what to do.
    """
    have = set(there)
    images = list(images)
    missing = [image for image in images if image not in have]
    if missing:
        raise PicturesLackingError(
            f"{archive}: {len(missing)} of {len(images)} pictures named in the labels are not in it "
            f"({some(missing)}); nothing was put in place; get the set from {where or 'its authors'}, or "
            "take what there is (fetch with --missing skip)"
        )


class _Rule:
    """One entry of `take`."""

    def __init__(self, archive: str, rule: Mapping[str, str], images: Iterable[str] | None):
        self.source, self.to = _parts(rule["from"]), _parts(rule.get("to", "."))
        self.by_name, self.used = rule.get("match") == "name", False
        self.images: dict[str, Parts] | None = None
        if images is None:
            if self.by_name:
                raise FetchError(f"{archive}: pictures are matched by name, but the labels could not be read")
            return
        self.images = {}
        for image in images:
            key = image.rsplit("/", 1)[-1] if self.by_name else image
            if self.by_name and key.lower() in self.images:
                raise FetchError(
                    f"{archive}: the labels name several pictures {key}, so they cannot be matched by name; "
                    "correct the manifest's `take`"
                )
            self.images[key.lower()] = _parts(image)

    def fits(self, name: Parts) -> bool:
        fits = name[: len(self.source)] == self.source
        self.used |= fits
        return fits

    def place(self, name: Parts) -> Parts | None:
        below = name[len(self.source) :]
        if not below:  # the rule names a file
            return self.to or name[-1:]
        to = self.to + below
        if self.images is None:
            return to
        return self.images.get((name[-1] if self.by_name else "/".join(to)).lower())


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part not in ("", "."))
