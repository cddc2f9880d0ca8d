"""Are scenes recognised, or what comes with them? Accuracy by class, and the same images at several sizes.

A class of photographs that comes from one source comes with that source's sizes, colors and compression, and
a test part of the same source cannot tell which of these a model has learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from liqe_core.data.labelled import LabelledImages
from liqe_core.files import write_csv
from liqe_core.images import read_image
from liqe_core.model import LIQE
from liqe_core.prompts import SCENES, VARIANTS
from liqe_core.studies import baselines
from liqe_core.studies.open_benchmark import KEPT, labels, predict_run
from liqe_core.studies.open_tables import with_labels
from liqe_core.training.prepare import labelled, sets_for
from liqe_core.training.profiles import profile

#: The longer sides, in pixels, at which the same photograph is asked for its scene.
SIDES = (256, 400, 800, 1600)


def write_held_out(
    root: str | Path, folder: str | Path = KEPT, name: str = "open-frozen", progress: bool = True
) -> None:
    """Write ``sources.csv``: how often scenes are recognised when the whole source was left out of training.

    Each source is left out in one of the ten sessions of ``scenes``: ten runs of quality and scene on the
    frozen tower. A finished run is not trained again.

    Args:
        root: run folders are in ``root/<name>/sources/<session>``.
        folder: gets the table: ``source``, ``scene`` (the first label), ``images`` and ``right``.
    """
    tables = []
    for session in range(1, 11):
        run = Path(root) / name / "sources" / str(session)
        sizes = {"biq2021": 32, "scenes": 32}
        settings = profile(name, session=session, variant=VARIANTS[1], batch_sizes=sizes)
        scenes = labelled("scenes", settings, progress)
        if not (run / "predictions.csv").is_file():
            predict_run(settings, sets_for(settings, progress), [scenes], run, progress)
        table = with_labels(pd.read_csv(run / "predictions.csv"), labels([scenes], session))
        for source, part in table.groupby("reference"):
            tables.append(by_class(part).rename_axis("scene").reset_index().assign(source=source))
    counts = pd.concat(tables)
    counts = counts[counts["scene"].isin(SCENES)].astype({"right": int, "images": int})
    write_csv(Path(folder) / "sources.csv", counts[["source", "scene", "images", "right"]])


def source_probe(dataset: LabelledImages) -> pd.DataFrame:
    """Measure how well the frozen tower's embeddings separate the sources within a class.

    If they separate them, a test is only a test of scenes when its source was left out of training.

    Args:
        dataset: with kept windows (`embeddings.kept_windows`); ``reference`` is the source.

    Returns:
        A row for each first label with two sources of at least twenty images: ``scene, sources, images``, the
        accuracy of a linear ``probe`` (five-fold), and the share of the ``commonest`` source.
    """
    first, rows = dataset.table["scenes"].str[0], []
    for scene, part in dataset.table.groupby(first):
        counts = part["reference"].value_counts()
        part = part[part["reference"].isin(counts[counts >= 20].index)]
        if part["reference"].nunique() < 2:
            continue
        values = baselines.mean_embeddings(dataset, part.index.to_numpy())
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        accuracy = cross_val_score(probe, values, part["reference"], cv=5).mean()
        shares = part["reference"].value_counts(normalize=True)
        rows.append((scene, len(shares), len(part), accuracy, shares.iloc[0]))
    return pd.DataFrame(rows, columns=["scene", "sources", "images", "probe", "commonest"])


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
