import numpy as np
import pytest

from liqe_core.files import CHECKOUT
from liqe_core.studies.published import METRICS, PROTOCOLS, load_published

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
    assert set(table["protocol"]) <= set(PROTOCOLS) and set(table["metric"]) <= set(METRICS)
    assert (table["title"] != "").all()

    def values(**where):
        rows = table.query(" and ".join(f"{key} == @where['{key}']" for key in where))
        return set(rows["value"])

    for dataset, value in {"csiq": 0.936, "kadid10k": 0.930, "koniq10k": 0.928}.items():
        assert value in values(method="LIQE", dataset=dataset, protocol="within-set", metric="SRCC")
    for dataset, value in {"spaq": 0.83, "koniq10k": 0.813, "kadid10k": 0.809, "pipal": 0.446}.items():
        assert value in values(method="LIQE", dataset=dataset, protocol="unseen", metric="SRCC")
    assert values(method="LIQE", dataset="flive", protocol="unseen", metric="SRCC") == {0.277}
    agiqa = values(method="LIQE", dataset="agiqa3k", protocol="aigc", metric="SRCC")
    assert agiqa == {0.7212, 0.708, 0.653}
    assert values(dataset="sjtu_h3d", method="CLIP-IQA", metric="SRCC") == {-0.0793}
    assert len(table.query("source == 'liqe-readme'")) == 10 * 4


def test_no_training_is_guessed():
    """A leaderboard that does not say how a model was trained is not made to say it."""
    table = load_published()
    board = table[table["source"].isin(["wizwand", "one-align-card"])]
    quoted = table[(table["source"] == "reliqs") & (table["method"] == "LIQE")]
    of = ["method", "dataset", "protocol", "metric", "value"]
    there = set(quoted[of].itertuples(index=False, name=None))
    same = board[of].apply(tuple, axis=1).isin(there)  # the paper's own table, as it is quoted, has it too
    assert same.sum() == 2 and (board.loc[same, "training"] == "").all()
    assert (board.loc[~same, "training"] == "not stated").all() and (board.loc[~same, "note"] != "").all()


def test_the_public_weights_of_paq2piq_never_saw_the_six_sets():
    table = load_published()
    of = table[(table["method"] == "PaQ2PiQ") & table["dataset"].isin(["koniq10k", "clive"])]
    assert set(of["value"]) == {0.722, 0.719, 0.716} and (of["protocol"] == "unseen").all()
    assert (of["note"] != "").all()


def test_the_six_sets_average_to_the_published_ablation():
    table = load_published()
    within = table.query("method == 'LIQE' and source == 'reliqs' and metric == 'SRCC'")
    assert len(within) == 6
    full = table.query("method == 'LIQE (quality + scene + distortion)'")["value"].item()
    assert np.round(within["value"].mean(), 3) == full


def test_datasets_are_named_as_their_manifests():
    stems = {path.stem for path in (CHECKOUT / "data_manifests").glob("*.yaml")}
    if stems <= {"published"}:
        pytest.skip("the manifests are not in this checkout")
    without = {"six-set-mean"}
    assert set(load_published()["dataset"]) - without <= stems


def test_the_folder_follows_the_environment(write, monkeypatch):
    monkeypatch.setenv("LIQE_MANIFESTS", str(write(GOOD)))
    table = load_published()
    assert table[["method", "value", "kind", "url", "differs"]].values.tolist() == [
        ["M", 0.5, "primary", "", ""]
    ]
    monkeypatch.setenv("LIQE_MANIFESTS", "/nowhere")
    with pytest.raises(FileNotFoundError, match="LIQE_MANIFESTS"):
        load_published()


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (GOOD.replace("method: M, ", ""), "no method"),
        (GOOD.replace("value: 0.5", "value: 93.6"), "value 93.6 is no SRCC"),
        (GOOD.replace("value: 0.5", "value: true"), "value True"),
        (GOOD.replace("value: 0.5", "value: .nan"), "value nan"),
        (GOOD.replace("unseen", "cross"), "protocol 'cross'"),
        (GOOD.replace("SRCC", "SROCC"), "metric 'SROCC'"),
        (GOOD.replace("source: paper", "source: rumour"), "source 'rumour'"),
        (GOOD.replace("}", ", why: x}"), "unknown field 'why'"),
        (GOOD.replace("method: M", "method: 3"), "method must be text"),
        ("just text", "not a mapping"),
        (GOOD, "gives this number already"),
    ],
)
def test_a_bad_entry_is_named(write, entry, problem):
    with pytest.raises(ValueError, match=problem) as error:
        load_published(write(GOOD, entry))
    assert "published.yaml, entry 2" in str(error.value)


def test_disagreement_needs_a_word(write):
    head = SOURCES.replace("\nentries", "\n  blog: {kind: notes, title: A blog}\nentries")
    other = GOOD.replace("0.5, source: paper", "0.6, source: blog")
    with pytest.raises(ValueError, match="entries 1, 2: they disagree on M d unseen SRCC"):
        load_published(write(GOOD, other, head=head))
    explained = load_published(write(GOOD, other.replace("}", ", differs: another split}"), head=head))
    assert explained["differs"].tolist() == ["", "another split"]
    trained_elsewhere = other.replace("}", ", training: elsewhere}")
    assert len(load_published(write(GOOD, trained_elsewhere, head=head))) == 2


def test_a_bad_file_or_source_is_named(write):
    with pytest.raises(ValueError, match="source 'paper': kind 'gossip'"):
        load_published(write(GOOD, head=SOURCES.replace("primary", "gossip")))
    with pytest.raises(ValueError, match=r"published\.yaml must hold"):
        load_published(write(head="entries: []\n"))
    with pytest.raises(ValueError, match=r"published\.yaml is no YAML"):
        load_published(write(head="sources: ["))
