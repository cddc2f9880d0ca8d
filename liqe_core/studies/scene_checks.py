"""Are scenes recognised, or what comes with them? Accuracy by class, and the same images at several sizes.

A class of photographs that comes from one source comes with that source's sizes, colors and compression, and
a test part of the same source cannot tell which of these a model has learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from liqe_core.data.labelled import LabelledImages
from liqe_core.files import write_csv
from liqe_core.images import read_image
from liqe_core.model import LIQE
from liqe_core.studies import baselines
from liqe_core.studies.open_benchmark import KEPT
from liqe_core.training.prepare import labelled
from liqe_core.training.profiles import profile

#: The longer sides, in pixels, at which the same photograph is asked for its scene.
SIDES = (256, 400, 800, 1600)


def by_class(table: pd.DataFrame) -> pd.DataFrame:
    """How often the likeliest scene is one of the labelled ones, by the first label.

    Args:
        table: from `with_labels`.

    Returns:
        Indexed by scene: ``images, right, accuracy``; the last rows are the ``mean over classes`` and
        ``all images``, and what the ``commonest word`` reaches in each.
    """
    labelled = table[table["scenes"].fillna("") != ""]
    words, likeliest = labelled["scenes"].str.split(";"), labelled["scene"].str.split(";").str[0]
    first = words.str[0]

    def right(answers: Sequence[str]) -> pd.Series:
        hits = [answer in known for answer, known in zip(answers, words, strict=True)]
        return pd.Series(hits, index=labelled.index)

    groups = right(likeliest).groupby(first)
    classes = pd.DataFrame({"images": groups.size(), "right": groups.sum(), "accuracy": groups.mean()})
    commonest = right([first.mode()[0]] * len(labelled))
    rows = {
        "mean over classes": (len(labelled), None, classes["accuracy"].mean()),
        "all images": (len(labelled), classes["right"].sum(), classes["right"].sum() / len(labelled)),
        "commonest word, mean over classes": (len(labelled), None, commonest.groupby(first).mean().mean()),
        "commonest word, all images": (len(labelled), commonest.sum(), commonest.mean()),
    }
    return pd.concat(
        [classes, pd.DataFrame(rows, index=classes.columns).T.astype(classes.dtypes["accuracy"])]
    )


def at_sizes(
    model: LIQE, dataset: LabelledImages, rows: Sequence[int], sides: Sequence[int] = SIDES
) -> pd.DataFrame:
    """The likeliest scene of the same photographs at several sizes.

    Args:
        dataset: packed; its files are read as they are.
        rows: of the photographs.
        sides: the longer sides, in pixels.

    Returns:
        A row a photograph: ``image``, and a column a side.
    """
    answers: dict[str, Sequence[str]] = {"image": dataset.table["image"].iloc[rows].to_numpy()}
    files = baselines.files_of(dataset, rows)
    for side in sides:
        images = []
        for file in files:
            image = read_image(file)
            scale = side / max(image.size)
            size = [max(1, round(length * scale)) for length in image.size]
            images.append(image.resize(size, Image.Resampling.BICUBIC))
        answers[str(side)] = model.score(images).to_frame()["scene"].to_numpy()
    return pd.DataFrame(answers)


def write_sizes(folder: str | Path = KEPT, source: str = "coco", count: int = 100) -> None:
    """Write ``sizes.csv``: `at_sizes` of ``liqe-tiny``, of photographs that it did not train on.

    Args:
        source: of ``scenes``, held out; as many labelled photographs come from BIQ2021's test part.
        count: photographs of each dataset.
    """
    settings, model, tables = profile("open", measured=0), LIQE.from_checkpoint("liqe-tiny"), []
    for name in ("scenes", "biq2021"):
        dataset = labelled(name, settings)
        rows = dataset.part(settings.session, "test")
        images = dataset.table.iloc[rows]
        chosen = images["reference"].eq(source) if name == "scenes" else images["scenes"].map(bool)
        table = at_sizes(model, dataset, rows[chosen.to_numpy()][:count])
        tables.append(
            table.assign(dataset=name, scenes=images["scenes"][chosen][:count].str.join(";").to_numpy())
        )
    write_csv(Path(folder) / "sizes.csv", pd.concat(tables, ignore_index=True))


def changing(answers: pd.DataFrame) -> float:
    """The part of photographs whose scene is not the same at all sizes of `at_sizes`."""
    return float((answers.filter(regex=r"^\d+$").nunique(axis=1) > 1).mean())
