"""The paper's tables: text of cells, comparisons, and reasons for empty cells."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from liqe_core.files import CHECKOUT
from liqe_core.studies import paper_tables
from liqe_core.studies.finished import FinishedRun, confusion_counts
from liqe_core.studies.paper_tables import load_published
from liqe_core.training.profiles import profile


def entry(dataset, value, source="a", method="LIQE", metric="SRCC", **more):
    row = {"method": method, "dataset": dataset, "protocol": "within-set", "metric": metric, "value": value}
    return row | {"source": source, "training": "", "differs": "", "note": "", "title": ""} | more


ENTRIES = [entry("csiq", 0.936), entry("csiq", 0.943, "b", differs="b alone"), entry("live", 0.97)]
ENTRIES += [entry("csiq", 0.9, method="UNIQUE")]
PUBLISHED = pd.DataFrame(ENTRIES)


def a_run(session, srcc, seed=1):
    results = pd.DataFrame({"checkpoint": ["average", "quality"], "srcc": [srcc - 0.1, srcc], "plcc": 0.9})
    settings = profile("smoke", session=session, seed=seed)
    folder = Path(f"run-{session}-{seed}")
    return FinishedRun(folder, settings, {}, results.assign(dataset="csiq"), 1, "")


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
    assert csiq["published"].tolist() == [0.936, 0.943]
    assert csiq["distance"].tolist() == pytest.approx([0.004, -0.003])
    assert compared.set_index("dataset").loc["live", "reason"] == "no run: of live"
    table = paper_tables.method_table(PUBLISHED, ["live", "csiq"], ["SRCC"])
    assert list(table.index) == ["UNIQUE", "LIQE"]
    assert table.loc["LIQE", "csiq\nSRCC"] == "0.936\n0.943"
    assert table.loc["UNIQUE", "live\nSRCC"] == "no source"
    text = paper_tables.with_ours(table, {"ours": compared})
    assert text.loc["ours", "csiq\nSRCC"] == "0.940\n(-0.003)" and text.loc["ours", "live\nSRCC"] == "no run"
    both = paper_tables.disagreements(PUBLISHED)
    assert both["value"].tolist() == [0.936, 0.943] and both["differs"].tolist() == ["", "b alone"]


def test_another_training_has_its_own_row_without_a_difference():
    of_training = {"board": ("not stated", 0.941), "c": ("KADID-10k", 0.8)}
    more = [entry("csiq", value, name, training=words) for name, (words, value) in of_training.items()]
    published = pd.DataFrame([*ENTRIES, *more, entry("live", 0.1, method="NIQE")])
    table = paper_tables.method_table(published, ["live", "csiq"], ["SRCC"])
    rows = [f"LIQE\n({words})" for words in ("training not stated", "KADID-10k alone")]
    assert list(table.index) == ["UNIQUE", "NIQE", *rows, "LIQE"]
    assert table.loc["LIQE", "csiq\nSRCC"] == "0.936\n0.943"
    assert table.loc["LIQE\n(training not stated)"].tolist() == ["no source", "0.941"]
    ours = paper_tables.ours_within([a_run(1, 0.941)])
    compared = paper_tables.beside(published, ours, lambda name: "no run: yet")
    text = paper_tables.with_ours(table, {"ours": compared})
    assert text.loc["ours", "csiq\nSRCC"] == "0.941\n(-0.002)", "0.943 is the nearest of the same training"
    assert compared["distance"].notna().sum() == 2


def test_the_papers_ablation_and_its_honest_blank():
    variants = ["quality", "quality+scene", "quality+distortion", "quality+scene+distortion"]
    table = paper_tables.paper_ablation(load_published(), variants).set_index("level")
    assert table["paper"].tolist() == pytest.approx([0.915, np.nan, 0.920, 0.922], nan_ok=True)
    assert "no source" in table.loc["quality+scene", "reason"]


def test_confusion_counts_every_label_of_a_image():
    labels = pd.Series([("a", "b"), ("b",), (), None], index=[7, 3, 5, 9])
    p = np.array([[0.9, 0.1], [0.2, 0.8], [1, 0], [1, 0]])
    counts = confusion_counts(labels, p, ["a", "b"])
    assert counts.to_numpy().tolist() == [[1, 0], [1, 1]]
    assert counts.index.tolist() == ["a", "b"] and counts.columns.tolist() == ["a", "b"]


# ---- published numbers ----

SOURCES = "sources:\n  paper: {kind: primary, title: A paper}\nentries:\n"
GOOD = "{method: M, dataset: d, protocol: unseen, metric: SRCC, value: 0.5, source: paper}"


@pytest.fixture
def write(tmp_path):
    def save(*entries, head=SOURCES):
        (tmp_path / "published.yaml").write_text(head + "".join(f"  - {entry}\n" for entry in entries))
        return tmp_path

    return save


def test_the_projects_file_holds_the_values_to_begin_with():
    table = load_published()
    assert set(table["metric"]) <= set(paper_tables.METRICS) and (table["title"] != "").all()
    values = table[table["metric"] == "SRCC"].groupby(["method", "protocol", "dataset"])["value"].agg(set)
    within = {"csiq": 0.936, "kadid10k": 0.930, "koniq10k": 0.928}
    unseen = {"spaq": 0.83, "koniq10k": 0.813, "kadid10k": 0.809, "pipal": 0.446}
    for protocol, published in (("within-set", within), ("unseen", unseen)):
        assert all(value in values["LIQE", protocol, dataset] for dataset, value in published.items())
    assert values["LIQE", "unseen", "flive"] == {0.277}
    assert values["LIQE", "aigc", "agiqa3k"] == {0.7212, 0.708, 0.653}
    assert values["CLIP-IQA", "aigc", "sjtu_h3d"] == {-0.0793}
    paq2piq = table[(table["method"] == "PaQ2PiQ") & table["dataset"].isin(["koniq10k", "clive"])]
    assert set(paq2piq["value"]) == {0.722, 0.719, 0.716}
    assert (paq2piq["protocol"] == "unseen").all(), "its public weights were not trained on the six datasets"
    assert len(table.query("source == 'liqe-readme'")) == 10 * 4
    six = table.query("method == 'LIQE' and source == 'reliqs' and metric == 'SRCC'")["value"]
    full = table.query("method == 'LIQE (quality + scene + distortion)'")["value"].item()
    assert len(six) == 6 and np.round(six.mean(), 3) == full, "they average to the published ablation"


def test_no_training_is_guessed():
    """A leaderboard that does not say how a model was trained is not made to say it."""
    table = load_published()
    board = table[table["source"].isin(["wizwand", "one-align-card", "clive-notes"])]
    assert (table.loc[~table["openable"], "kind"] == "notes").all() and not table.loc[
        ~table["openable"], "url"
    ].any()
    quoted = table[(table["source"] == "reliqs") & (table["method"] == "LIQE")]
    number = ["method", "dataset", "protocol", "metric", "value"]
    known = set(quoted[number].itertuples(index=False, name=None))
    same = board[number].apply(tuple, axis=1).isin(known)  # the paper's own table, as quoted, has it too
    assert same.sum() == 2 and (board.loc[same, "training"] == "").all()
    assert (board.loc[~same, "training"] == "not stated").all() and (board.loc[~same, "note"] != "").all()


def test_datasets_are_named_as_their_manifests():
    stems = {path.stem for path in (CHECKOUT / "data_manifests").glob("*.yaml")}
    assert set(load_published()["dataset"]) - {"six-set-mean", "ava"} <= stems


def test_the_folder_follows_the_environment(write, monkeypatch):
    monkeypatch.setenv("LIQE_MANIFESTS", str(write(GOOD)))
    table = load_published()
    (row,) = table[["method", "value", "kind", "url", "differs"]].values.tolist()
    assert row == ["M", 0.5, "primary", "", ""]
    monkeypatch.setenv("LIQE_MANIFESTS", "/nowhere")
    with pytest.raises(FileNotFoundError, match="LIQE_MANIFESTS"):
        load_published()


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (GOOD.replace("method: M, ", ""), "method"),
        (GOOD.replace("value: 0.5", "value: 93.6"), "value 93.6"),
        (GOOD.replace("value: 0.5", "value: true"), "value"),
        (GOOD.replace("value: 0.5", "value: .nan"), "value nan"),
        (GOOD.replace("unseen", "cross"), "protocol"),
        (GOOD.replace("SRCC", "SROCC"), "metric"),
        (GOOD.replace("source: paper", "source: rumour"), "rumour"),
        (GOOD.replace("}", ", why: x}"), "why"),
        (GOOD.replace("method: M", "method: 3"), "method"),
        ("just text", "just text"),
        (GOOD, "duplicate"),
    ],
)
def test_a_bad_entry_is_named(write, entry, field):
    with pytest.raises(ValueError, match=rf"published\.yaml, entries 2.*{field}"):
        load_published(write(GOOD, entry))


@pytest.mark.parametrize(
    ("head", "named"),
    [(SOURCES.replace("primary", "gossip"), "paper kind"), ("entries: [", "YAML")],
)
def test_a_bad_file_or_source_is_named(write, head, named):
    with pytest.raises(ValueError, match=rf"published\.yaml.*{named}"):
        load_published(write(GOOD, head=head))


def test_disagreement_needs_a_word(write):
    head = SOURCES.replace("\nentries", "\n  blog: {kind: notes, title: A blog}\nentries")
    second = GOOD.replace("0.5, source: paper", "0.6, source: blog")
    with pytest.raises(ValueError, match="entries 1, 2"):
        load_published(write(GOOD, second, head=head))
    explained = load_published(write(GOOD, second.replace("}", ", differs: another split}"), head=head))
    assert explained["differs"].tolist() == ["", "another split"]
    trained_elsewhere = second.replace("}", ", training: elsewhere}")
    assert len(load_published(write(GOOD, trained_elsewhere, head=head))) == 2
