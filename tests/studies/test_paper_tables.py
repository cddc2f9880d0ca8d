"""The paper's tables: what stands in a cell, what is compared, what is shaded, and why a cell is empty."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from liqe_core.data.manifests import TRAINING_SETS
from liqe_core.studies import paper_tables
from liqe_core.studies.finished import FinishedRun, confusion_counts
from liqe_core.studies.published import load_published


def entry(dataset, value, source="a", method="LIQE", metric="SRCC", **more):
    row = {"method": method, "dataset": dataset, "protocol": "within-set", "metric": metric, "value": value}
    return row | {"source": source, "training": "", "differs": "", "note": "", "title": ""} | more


PUBLISHED = pd.DataFrame(
    [
        entry("csiq", 0.936),
        entry("csiq", 0.943, "b", differs="b alone"),
        entry("live", 0.97),
        entry("csiq", 0.9, method="UNIQUE"),
    ]
)


def a_run(session, srcc, seed=1):
    results = pd.DataFrame(
        {"checkpoint": ["average", "quality"], "dataset": "csiq", "srcc": [srcc - 0.1, srcc], "plcc": 0.9}
    )
    settings = {"session": session, "seed": seed}
    return FinishedRun(Path(f"run-{session}-{seed}"), settings, {}, {}, {}, results, 1, "")


def test_median_over_sessions_after_the_mean_over_seeds():
    runs = [a_run(1, 0.90), a_run(1, 0.92, seed=2), a_run(2, 0.95), a_run(3, 0.99)]
    table = paper_tables.ours_within(runs).set_index("metric")
    assert table.loc["SRCC", "median"] == pytest.approx(0.95)  # of 0.91, 0.95, 0.99
    assert table.loc["SRCC", "mean"] == pytest.approx(0.95) and table.loc["SRCC", "sessions"] == 3
    assert table.loc["SRCC", "spread"] == pytest.approx(0.04)
    assert paper_tables.ours_within([]).empty
    average = paper_tables.ours_within(runs, "average").set_index("metric")
    assert average.loc["SRCC", "median"] == pytest.approx(0.85), "best by quality is the benchmark's"


def test_sources_that_disagree_stay_and_the_nearest_is_shaded():
    ours = paper_tables.ours_within([a_run(1, 0.940)])
    compared = paper_tables.beside(PUBLISHED, ours, lambda name: f"no run: of {name}")
    csiq = compared[compared["dataset"] == "csiq"]
    assert csiq["published"].tolist() == [0.936, 0.943] and csiq["distance"].tolist() == pytest.approx(
        [0.004, -0.003]
    )
    assert compared.set_index("dataset").loc["live", "reason"] == "no run: of live"
    table = paper_tables.method_table(PUBLISHED, ["live", "csiq"], ["SRCC"])
    assert list(table.index) == ["UNIQUE", "LIQE"]
    assert (
        table.loc["LIQE", "csiq\nSRCC"] == "0.936\n0.943" and table.loc["UNIQUE", "live\nSRCC"] == "no source"
    )
    average = paper_tables.ours_within([a_run(1, 0.940)], "average")
    other = paper_tables.beside(PUBLISHED, average, lambda name: f"no run: of {name}")
    text, distance = paper_tables.with_ours(table, {"ours": compared, "by average": other})
    assert list(text.index) == ["UNIQUE", "LIQE", "ours", "by average"]
    assert text.loc["by average", "csiq\nSRCC"] == "0.840\n(-0.096)"
    assert distance.loc["by average", "csiq\nSRCC"] == pytest.approx(-0.096)
    text, distance = paper_tables.with_ours(table, {"ours": compared})
    assert text.loc["ours", "csiq\nSRCC"] == "0.940\n(-0.003)" and text.loc["ours", "live\nSRCC"] == "no run"
    assert distance.loc["ours", "csiq\nSRCC"] == pytest.approx(-0.003)
    assert distance.notna().sum(axis=None) == 1
    alone = pd.DataFrame([{"dataset": "live", "metric": "SRCC", "ours": 0.9, "distance": np.nan}])
    text, distance = paper_tables.with_ours(table, {"ours": alone})
    assert text.loc["ours", "live\nSRCC"] == "0.900" and distance.isna().all(axis=None), (
        "nothing to compare with"
    )
    both = paper_tables.disagreements(PUBLISHED)
    assert both["value"].tolist() == [0.936, 0.943] and both["differs"].tolist() == ["", "b alone"]


def test_another_training_has_a_row_of_its_own_and_is_not_measured_by():
    published = pd.concat(
        [
            PUBLISHED,
            pd.DataFrame(
                [
                    entry("csiq", 0.941, "board", training="not stated"),
                    entry("csiq", 0.8, "c", training="KADID-10k"),
                    entry("live", 0.1, method="NIQE"),
                ]
            ),
        ]
    )
    table = paper_tables.method_table(published, ["live", "csiq"], ["SRCC"])
    assert list(table.index) == [
        "UNIQUE",
        "NIQE",
        "LIQE\n(training not stated)",
        "LIQE\n(KADID-10k alone)",
        "LIQE",
    ]
    assert table.loc["LIQE", "csiq\nSRCC"] == "0.936\n0.943"
    assert table.loc["LIQE\n(training not stated)"].tolist() == ["no source", "0.941"]
    ours = paper_tables.ours_within([a_run(1, 0.941)])
    compared = paper_tables.beside(published, ours, lambda name: "no run: yet")
    text, _ = paper_tables.with_ours(table, {"ours": compared})
    assert text.loc["ours", "csiq\nSRCC"] == "0.941\n(-0.002)", "0.943 is the nearest of the same training"
    assert compared["distance"].notna().sum() == 2
    assert set(published.loc[paper_tables.widely_known(published), "method"]) == {"LIQE"}


def test_the_papers_ablation_and_its_honest_blank():
    variants = ["quality", "quality+scene", "quality+distortion", "quality+scene+distortion"]
    table = paper_tables.paper_ablation(load_published(), variants).set_index("level")
    assert table["paper"].dropna().to_dict() == {
        "quality": 0.915,
        "quality+distortion": 0.920,
        "quality+scene+distortion": 0.922,
    }
    assert (
        np.isnan(table.loc["quality+scene", "paper"]) and "no source" in table.loc["quality+scene", "reason"]
    )


def test_confusion_counts_every_label_of_a_picture():
    labels = pd.Series([("a", "b"), ("b",), (), None], index=[7, 3, 5, 9])
    p = np.array([[0.9, 0.1], [0.2, 0.8], [1, 0], [1, 0]])
    counts = confusion_counts(labels, p, ["a", "b"])
    assert counts.to_numpy().tolist() == [[1, 0], [1, 1]]
    assert counts.index.tolist() == ["a", "b"] and counts.columns.tolist() == ["a", "b"]


def test_the_real_file_makes_both_tables():
    published = load_published()
    within = published[published["protocol"] == "within-set"]
    table = paper_tables.method_table(within, TRAINING_SETS, ["SRCC", "PLCC"])
    assert (
        table.loc["LIQE", "csiq\nSRCC"].startswith("0.936") and table.loc["LIQE", "kadid10k\nSRCC"] == "0.930"
    )
    compared = paper_tables.beside(within, paper_tables.ours_within([]), lambda name: "no run: yet")
    text, distance = paper_tables.with_ours(table, {"ours": compared})
    assert text.equals(table) and distance.isna().all(axis=None), "no row of ours without a number in it"
    several = within[paper_tables.widely_known(within)]
    known, told = paper_tables.mostly_known(
        paper_tables.method_table(several, TRAINING_SETS, ["SRCC", "PLCC"])
    )
    assert list(known.index) == ["UNIQUE", "LIQE"] and not (known == paper_tables.NO_SOURCE).any(axis=None)
    assert told == "Besides, sources give: LIQE (training not stated) on koniq10k, SRCC: 0.928."
    assert paper_tables.mostly_known(known)[1] == ""
