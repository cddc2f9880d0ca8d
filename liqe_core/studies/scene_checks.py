"""Checks of scene recognition: accuracy by class, held-out sources, and the same images at several sizes.

If a class comes from one source, its images share that source's sizes, colors and compression. A test part
from the same source cannot show whether a model has learned the scene or these properties.
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

#: The longer sides, in pixels, at which the scene of the same photograph is predicted.
SIDES = (256, 400, 800, 1600)


def write_held_out(
    root: str | Path, folder: str | Path = KEPT, name: str = "open-frozen", progress: bool = True
) -> None:
    """Write ``sources.csv``: the scene accuracy on sources that were left out of training.

    Each source is left out in one of the ten sessions of ``scenes``: ten runs of quality and scene on the
    frozen tower. Finished runs are not trained again.

    Args:
        root: run folders are in ``root/<name>/sources/<session>``.
        folder: the folder of the table: ``source``, ``scene`` (the first label), ``images`` and ``right``.
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

    If the sources can be separated, scene accuracy is meaningful only on sources that were left out of
    training.

    Args:
        dataset: a dataset with kept windows (`embeddings.kept_windows`); ``reference`` is the source.

    Returns:
        A row for each first label with at least two sources of at least twenty images: ``scene, sources,
        images``, the accuracy of a linear ``probe`` (five-fold), and the share of the ``commonest`` source.
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
    """Compute the scene accuracy by the first label: how often the likeliest scene is a labelled one.

    Args:
        table: from `with_labels`.

    Returns:
        Indexed by scene: ``images, right, accuracy``; the last rows are the ``mean over classes``, ``all
        images``, and the majority-class baseline (``commonest word``) of each.
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
    """Predict the likeliest scene and the quality of the same photographs at several sizes.

    Args:
        dataset: a packed dataset; its original files are read.
        rows: the rows of the photographs.
        sides: the longer sides, in pixels.

    Returns:
        A row for each photograph: ``image``, and for each side its scene (``256``) and ``quality 256``.
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
        scored = model.score(images).to_frame()
        answers[str(side)] = scored["scene"].to_numpy()
        answers[f"quality {side}"] = scored["quality"].round(4).to_numpy()
    return pd.DataFrame(answers)


def write_sizes(folder: str | Path = KEPT, source: str = "coco", count: int = 100) -> None:
    """Write ``sizes.csv``: `at_sizes` of ``liqe-tiny`` on photographs that were not in its training data.

    Args:
        source: a held-out source of ``scenes``; the same number of labelled photographs comes from BIQ2021's
            test part.
        count: the number of photographs of each dataset.
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
    """Compute the share of photographs whose predicted scene differs between the sizes of `at_sizes`."""
    return float((answers.filter(regex=r"^\d+$").nunique(axis=1) > 1).mean())
