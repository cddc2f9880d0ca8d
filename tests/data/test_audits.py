import numpy as np
import pandas as pd
import pytest
from support.data import MIRROR, needs_mirror, own_set, write_image

from liqe_core.data import audits
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import TRAINING_SETS, load_manifest
from liqe_core.data.splits import random_sessions


@pytest.fixture
def manifest(tmp_path):
    return own_set(tmp_path, count=20, kind="synthetic", expect="{sessions: [14, 2, 4]}", images=20)


@pytest.fixture
def table(manifest):
    return read_labels(manifest).assign(reference=[f"r{i // 4}" for i in range(20)], distortion="blur")


def row(table, audit):
    return table[table["audit"] == audit].iloc[0]


def audited(look, table, manifest, **options):
    """The rows of one audit, as `audit` puts them in its table."""
    return pd.DataFrame(look(table, manifest, **options), columns=audits.COLUMNS[1:]).astype({"ok": object})


@needs_mirror
@pytest.mark.parametrize("name", TRAINING_SETS)
def test_the_released_labels_pass_what_they_should(released, name):
    manifest, table = load_manifest(name), released[released["dataset"] == name].reset_index(drop=True)
    assert audited(audits.counts, table, manifest)["ok"].all()
    assert audited(audits.sessions, table, manifest)["found"].tolist() == [0]
    assert audited(audits.scores, table, manifest)["ok"].all()
    reference = audited(audits.references, table, manifest).iloc[0]
    assert reference["found"] == 0
    wanted = {"csiq": 300, "kadid10k": 810, "live": 29}  # references x sessions; LIVE's groups
    assert reference["checked"] == wanted.get(name, 0)
    assert reference["ok"] is (True if name in ("csiq", "kadid10k") else None)
    named = audited(audits.folders, table, manifest)
    assert named["ok"].tolist() == {"live": [False], "csiq": [True], "kadid10k": [True]}.get(name, [])


@needs_mirror
def test_the_fast_fading_story(released):
    live = load_manifest("live")
    story = audited(audits.fast_fading, released[released["dataset"] == "live"], live)
    assert row(story, "fast fading: labels copied")["found"] == 145
    assert "14 of 145" in row(story, "fast fading: scenes")["verdict"]
    assert not story["ok"].any()
    mended = audited(audits.fast_fading, read_labels("live", mirror=MIRROR, fastfading="corrected"), live)
    assert mended["ok"].all()


@needs_mirror
def test_live_references_are_checked_against_the_archives_list(tmp_path, released):
    from scipy.io import savemat

    # As in refnames_all.mat: 982 names in folder order. The groups of the splits stand in for the real ones.
    live = released[released["dataset"] == "live"]
    group = dict(zip(live["image"], pd.factorize(audits.split_keys(live))[0], strict=True))
    order = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    names = [f"ref{group.get(f'{f}/img{i}.bmp', 0)}.bmp" for f, n in order.items() for i in range(1, n + 1)]
    folder = tmp_path / "databaserelease2"
    folder.mkdir()

    def save(names):
        savemat(folder / "refnames_all.mat", {"refnames_all": np.array([names], dtype=object)})

    save(names)
    table = read_labels("live", root=tmp_path, mirror=MIRROR)
    assert table["reference"].nunique() == 29
    manifest = load_manifest("live")
    found = audited(audits.references, table, manifest).iloc[0]
    assert (found["ok"], found["checked"]) == (True, 290)
    save([name if i else "ref28.bmp" for i, name in enumerate(names)])  # jp2k/img1 is an original: no harm
    assert audited(audits.references, read_labels("live", tmp_path, MIRROR), manifest)["ok"].all()
    save(["ref1.bmp" if name == "ref2.bmp" else name for name in names])  # two references under one name
    found = audited(audits.references, read_labels("live", tmp_path, MIRROR), manifest).iloc[0]
    assert found["ok"] is False and "in two parts" in found["verdict"]
    save(names[:-1])
    with pytest.raises(ValueError, match="981"):
        read_labels("live", tmp_path, MIRROR)


def test_wrong_counts_are_reported(manifest, table):
    split = random_sessions(table.assign(reference=None))
    assert audited(audits.counts, split, manifest)["ok"].all()
    short = audited(audits.counts, split[1:], manifest)
    assert row(short, "images")["found"] == 1 and not row(short, "images")["ok"]
    assert "session_1" in row(short, "session sizes")["verdict"]


def test_an_image_in_two_parts_and_a_repeated_session(manifest, table):
    split = random_sessions(table.assign(reference=None))
    assert audited(audits.sessions, split, manifest)["ok"].all()
    split["session_4"] = split["session_2"]
    twice = split[split["session_1"] == "test"][:1].assign(session_1="train")
    found = audited(audits.sessions, pd.concat([split, twice]), manifest).iloc[0]
    assert found["ok"] is False and "two parts" in found["verdict"] and "repeat" in found["verdict"]
    split.loc[0, "session_3"] = None
    assert "no part" in audited(audits.sessions, split, manifest)["verdict"][0]
    assert audited(audits.sessions, table, manifest)["ok"][0] is None


def test_a_reference_on_both_sides(manifest, table):
    split = random_sessions(table)
    assert audited(audits.references, split, manifest)["ok"].all()
    first = split["session_5"][0]
    split.loc[0, "session_5"] = "test" if first != "test" else "train"
    found = audited(audits.references, split, manifest).iloc[0]
    assert found["ok"] is False and "session_5" in found["verdict"]


def test_scores_out_of_range_and_a_range_that_is_hardly_used(manifest, table):
    # scores 1 .. 20, range 1 .. 20
    assert audited(audits.scores, table, manifest)["ok"].all()
    found = audited(audits.scores, table.assign(mos=table["mos"] * 1.5), manifest).iloc[0]
    assert found["found"] == 7  # 14 .. 20 go over 20
    assert "range" in audited(audits.scores, table[:5], manifest)["verdict"][0]


def test_near_duplicates_in_a_users_dataset(manifest, table):
    split = random_sessions(table.assign(reference=None))
    assert audited(audits.duplicates, split, manifest, progress=False)["ok"].all()
    test, train = (split.loc[split["session_1"] == part, "image"].iloc[0] for part in ("test", "train"))
    seed = int(train[1:4])
    write_image(manifest.folder() / test, seed=seed)
    found = audited(audits.duplicates, split, manifest, progress=False).iloc[0]
    assert found["ok"] is False and found["found"] == 1
    assert audited(audits.duplicates, table, manifest, progress=False)["ok"].tolist() == [None]


def test_scenes_are_audited_without_scores(tmp_path):
    write_image(tmp_path / "mine" / "sun" / "a.jpg")
    (tmp_path / "scenes.csv").write_text("image,scenes\nsun/a.jpg,landscape\n")
    (tmp_path / "mine.yaml").write_text(
        "title: t\nfolder: mine\nlabels: {form: scenes, file: scenes.csv, image: image}\n"
    )
    table = audits.audit(load_manifest(tmp_path / "mine.yaml"), progress=False)
    assert list(table.columns) == audits.COLUMNS and not table["audit"].str.contains("score").any()
