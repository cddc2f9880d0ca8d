import json
from itertools import chain

import pytest
from support.data import own_set
from timm.data import ImageNetInfo

from liqe_core.data.manifest_fields import HubFields, RepositoryFields
from liqe_core.data.manifests import ManifestError, available, load_manifest
from liqe_core.data.tables import read_table
from liqe_core.prompts import SCENES

PUBLISHED = {  # the counts that the sets' papers give
    "live": 779,
    "csiq": 866,
    "kadid10k": 10125,
    "bid": 586,
    "clive": 1162,
    "koniq10k": 10073,
    "tid2013": 3000,
    "spaq": 11125,
    "pipal": 23200,
    "flive": 39810,
    "agiqa3k": 2982,
    "agiqa1k": 1080,
    "aigciqa2023": 2400,
    "biq2021": 12000,
    "hevc": 371,
    "tid2013-part": 286,
}


def test_every_published_set_has_a_manifest_that_passes_the_schema():
    assert set(PUBLISHED) <= set(available())
    assert available()[:6] == ["live", "csiq", "kadid10k", "bid", "clive", "koniq10k"]
    for name in available():
        manifest = load_manifest(name)
        assert manifest.name == name and manifest.title
        assert manifest.images == PUBLISHED.get(name, manifest.images)


def test_sets_of_public_repositories_are_pinned():
    several = {"biq2021": 1, "hevc": 1, "open-distorted": 1, "open-scenes": 4, "tid2013-part": 1}
    counts = {name: len(load_manifest(name).repositories) for name in available()}
    assert {name: count for name, count in counts.items() if count} == several
    for name in several:
        manifest = load_manifest(name)
        assert manifest.terms.access == "open" and manifest.where
        assert all(len(repository.commit) == 40 for repository in manifest.repositories)
        into = [pinned.into for pinned in manifest.repositories]
        assert len(set(into)) == len(into) and (len(into) == 1 or all(into)), "each in a folder of its own"


def test_open_distorted_is_as_large_as_its_photographs_make_it():
    ours, kadid = load_manifest("open-distorted"), load_manifest("kadid10k")
    assert ours.images == 25 * ours.references == 25 * (500 + ours.labels.best)
    assert load_manifest(ours.labels.best_of).score is not None
    assert (ours.score.low, ours.score.high) == (kadid.score.low, kadid.score.high), "whose opinions it has"
    (pinned,) = ours.repositories
    assert pinned.into == ours.labels.photographs != ours.pictures[0]


def test_every_class_of_open_scenes_is_there_once_with_the_papers_words():
    manifest = load_manifest("open-scenes")
    table = read_table(manifest.path.parent / manifest.labels.file[0])
    assert list(table.columns) == ["class", "scenes"] and table["class"].is_unique
    words = [tuple(filter(None, text.split(";"))) for text in table["scenes"]]
    assert set(chain.from_iterable(words)) <= set(SCENES) and all(len(set(w)) == len(w) for w in words)
    folders = {pinned.into for pinned in manifest.repositories}
    assert set(table["class"].str.split("/").str[0]) == folders
    of_imagenet = table["class"].str.extract(r"^imagenet/(n\d{8})_[^/]+\.JPEG$")[0].dropna()
    assert sorted(of_imagenet) == sorted(ImageNetInfo().label_names()), "all thousand of them"
    assert len(of_imagenet) == table["class"].str.startswith("imagenet/").sum()


@pytest.mark.parametrize("name", ["live", "csiq", "kadid10k", "bid", "clive", "koniq10k"])
def test_sessions_of_a_training_set_add_up(name):
    manifest = load_manifest(name)
    assert len(manifest.sessions) == 10
    assert {sum(parts) for parts in manifest.sessions} == {manifest.images}
    assert sum(manifest.expect.distortions.values()) == manifest.images


def test_five_lines_are_enough_for_ones_own_pictures(tmp_path):
    manifest = own_set(tmp_path, role="user")
    assert len(manifest.path.read_text().splitlines()) == 5
    assert manifest.locate() == tmp_path / "photographs", "paths are relative to the manifest"
    assert manifest.score.direction == "higher" and manifest.terms.access == "unknown"


def test_a_manifest_for_the_embedded_set_is_admitted(tmp_path):
    path = tmp_path / "mini.yaml"
    path.write_text(
        "title: m\nnote: n\nsource: {a: b}\nsize: 256\nphotographs: [x]\nopinions: {blur: [1, 2]}\n"
    )
    assert load_manifest(path).score is None


def test_scores_that_fall_with_quality_are_turned_round(tmp_path):
    manifest = own_set(tmp_path, score="{column: opinion, range: [0, 10], direction: lower}")
    assert manifest.score.oriented(3.0) == 7.0


@pytest.mark.parametrize(
    ("field", "value", "line", "says"),
    [
        ("score", "{column: opinion, range: [5, 1]}", 4, "low < high"),
        ("score", "{column: opinion, range: [1]}", 4, "score.range"),
        ("score", "{column: opinion, range: [1, 5], direction: up}", 4, "score.direction"),
        ("score", "{range: [1, 5]}", 4, "score.column"),
        ("labels", "{form: csv, file: scores.csv}", 3, "needs 'image'"),
        ("labels", "{form: excel, file: scores.csv, image: a}", 3, "labels.form"),
        ("colour", "blue", 5, "colour"),
        ("images", "0", 5, "images"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, field, value, line, says):
    with pytest.raises(ManifestError) as error:
        own_set(tmp_path, **{field: value})
    assert "holiday.yaml" in str(error.value)
    assert f"line {line}, " in str(error.value) and says in str(error.value)


def write(folder, **fields):
    text = {"title": "t", "folder": "f"} | fields
    path = folder / "set.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in text.items()))
    return path


WITH_SCORES = {
    "csv": "{form: csv, file: a.csv, image: name}",
    "biq2021": "{form: biq2021, train: a.csv, test: b.csv, image: name}",
    "liqe": "{form: liqe, prefix: a}",
}


@pytest.mark.parametrize("form", WITH_SCORES)
def test_a_form_with_scores_needs_the_score(tmp_path, form):
    labels = WITH_SCORES[form]
    with pytest.raises(ManifestError, match=f"line 3, labels: form '{form}' needs the field `score`"):
        load_manifest(write(tmp_path, labels=labels))
    assert load_manifest(write(tmp_path, labels=labels, score="{column: mos, range: [0, 1]}")).score.high == 1


def test_a_form_without_scores_needs_none_but_its_own_fields(tmp_path):
    assert load_manifest(write(tmp_path, labels="{form: classes, file: a.csv}")).score is None
    made = "{form: distorted, photographs: p, best_of: biq2021, best: 3}"
    assert load_manifest(write(tmp_path, labels=made)).score is None
    with pytest.raises(ManifestError, match="line 3, labels: form 'classes' needs 'file'"):
        load_manifest(write(tmp_path, labels="{form: classes}"))
    for lacking in ("photographs: p, ", "best_of: biq2021, ", ", best: 3"):
        name = lacking.strip(", ").partition(":")[0]
        with pytest.raises(ManifestError, match=f"line 3, labels: form 'distorted' needs '{name}'"):
            load_manifest(write(tmp_path, labels=made.replace(lacking, "")))


HOSTED = {
    "repository": "o/n",
    "file": "a.zip",
    "bytes": 5,
    "take": [{"from": "a", "to": "b", "match": "name"}],
}


@pytest.mark.parametrize(
    "wrong",
    [
        HOSTED | {"repository": "n"},
        HOSTED | {"take": []},
        HOSTED | {"take": [{"to": "b"}]},
        HOSTED | {"take": [{"from": "a", "match": "size"}]},
        HOSTED | {"name": "a.csv"},
        HOSTED | {"revision": "main"},
        {k: v for k, v in HOSTED.items() if k != "bytes"},
    ],
)
def test_a_file_of_the_hub_is_taken_apart_or_kept_whole(tmp_path, wrong):
    def load(hosted):
        given = json.dumps(hosted)
        return load_manifest(write(tmp_path, labels="{form: classes, file: a.csv}", hub=given))

    loose = {k: v for k, v in HOSTED.items() if k != "take"} | {"name": "a.csv"}
    hosted = HubFields.model_validate(HOSTED)
    assert load(HOSTED).hosted == [hosted] and load([HOSTED, loose]).hosted[1].name == "a.csv"
    assert load(HOSTED).can_be_fetched and not own_set(tmp_path).can_be_fetched
    with pytest.raises(ManifestError, match=r"line 4, hub\.0"):
        load(wrong)


PINNED = {"url": "https://a.org/b/c", "commit": "0" * 40, "path": "d/e", "into": "f"}


@pytest.mark.parametrize(
    ("repository", "says"),
    [
        (PINNED | {"commit": "main"}, ".0.commit"),
        ([PINNED, PINNED | {"url": "http://a.org/b/c"}], ".1.url"),
        ([], ""),
        ({k: v for k, v in PINNED.items() if k != "commit"}, ".0.commit"),
        (PINNED | {"folder": "g"}, ".0.folder"),
    ],
)
def test_a_repository_is_an_object_or_a_list_of_them(tmp_path, repository, says):
    def load(repository):
        given = json.dumps(repository)
        return load_manifest(write(tmp_path, labels="{form: classes, file: a.csv}", repository=given))

    pinned = RepositoryFields(**PINNED)
    assert load(PINNED).repositories == [pinned]
    assert load([PINNED, PINNED]).repositories == [pinned, pinned]
    assert own_set(tmp_path).repositories == []
    with pytest.raises(ManifestError, match=f"line 4, repository{says}"):
        load(repository)


def test_distortion_counts_must_sum_to_the_images(tmp_path):
    with pytest.raises(ManifestError, match="sum to 5, but images is 6"):
        own_set(tmp_path, images=6, expect="{distortions: {blur: 2, noise: 3}}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title: [", "not YAML"),
        ("", "holds no fields"),
        ("- a\n", "holds no fields"),
        ("x: 1\n", "title.*\n.*x: "),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, text, says):
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=says):
        load_manifest(path)


def test_a_wrong_name_lists_the_right_ones(tmp_path):
    with pytest.raises(ManifestError, match="choose one of live, csiq"):
        load_manifest("livee")
    with pytest.raises(ManifestError, match="no such file"):
        load_manifest(tmp_path / "none.yaml")


def test_a_set_is_found_under_either_name_and_at_its_own_folder(tmp_path):
    manifest = load_manifest("koniq10k")
    assert manifest.locate(tmp_path) is None
    (tmp_path / "KonIQ10k" / "1024x768").mkdir(parents=True)
    assert manifest.locate(tmp_path) == tmp_path / "KonIQ10k"
    assert manifest.locate(tmp_path / "KonIQ10k") == tmp_path / "KonIQ10k"
    (tmp_path / "koniq-10k").mkdir()
    assert manifest.locate(tmp_path) == tmp_path / "koniq-10k", "the usual name goes first"


@pytest.mark.parametrize(
    ("name", "image", "reference"),
    [
        ("csiq", "dst_imgs/awgn/sunset_sparrow.AWGN.1.png", "sunset_sparrow"),
        ("kadid10k", "images/I32_01_05.png", "i32"),
        ("tid2013", "distorted_images/I01_24_5.bmp", "i01"),
        ("pipal", "Train_Dist/A0001_00_00.bmp", "a0001"),
        ("koniq10k", "1024x768/107799222.jpg", None),
    ],
)
def test_references_are_read_from_names(name, image, reference):
    assert load_manifest(name).reference_of(image) == reference
