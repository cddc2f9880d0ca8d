import json

import pytest
from support.data import own_set

from liqe_core.data.manifest_fields import HubFields, RepositoryFields
from liqe_core.data.manifests import ManifestError, available, load_manifest


def test_every_published_set_has_a_manifest_that_passes_the_schema():
    assert available()[:6] == ["live", "csiq", "kadid10k", "bid", "clive", "koniq10k"]
    for name in available():
        manifest = load_manifest(name)
        assert manifest.name == name and manifest.title


def test_sets_of_public_repositories_are_pinned():
    several = {"biq2021": 1, "hevc": 1, "open-distorted": 1, "scenes": 27, "tid2013-part": 1}
    counts = {name: len(load_manifest(name).repositories) for name in available()}
    assert {name: count for name, count in counts.items() if count} == several
    for name in several:
        manifest = load_manifest(name)
        assert manifest.terms.access == "open" and manifest.page
        assert all(len(repository.commit) == 40 for repository in manifest.repositories)
        into = [pinned.into for pinned in manifest.repositories]
        assert len(set(into)) == len(into) and (len(into) == 1 or all(into)), "each in a folder of its own"


def test_open_distorted_is_as_large_as_its_photographs_make_it():
    ours, kadid = load_manifest("open-distorted"), load_manifest("kadid10k")
    assert ours.references == 500 + ours.labels.best
    assert 31 * ours.references <= ours.images <= 32 * ours.references, "a grey one is excluded"
    assert load_manifest(ours.labels.best_of).score is not None
    assert (ours.score.low, ours.score.high) == (kadid.score.low, kadid.score.high), "whose opinions it has"


@pytest.mark.parametrize("name", ["live", "csiq", "kadid10k", "bid", "clive", "koniq10k"])
def test_sessions_of_a_training_set_add_up(name):
    manifest = load_manifest(name)
    assert len(manifest.sessions) == 10
    assert {sum(parts) for parts in manifest.sessions} == {manifest.images}
    assert sum(manifest.expect.distortions.values()) == manifest.images


SCORED = {"labels": "{form: csv, file: a.csv, image: name}", "score": "{column: mos, range: [1, 5]}"}
SCENES_ALONE = {"labels": "{form: scenes, file: a.csv, image: a}"}
MADE = {"labels": "{form: distorted, photographs: p, best_of: biq2021, best: 3}"}
HOSTED = {"repository": "o/n", "file": "a.zip", "bytes": 5}
LOOSE = HOSTED | {"name": "a.csv"}
PINNED = {"url": "https://a.org/b/c", "commit": "0" * 40, "path": "d/e", "into": "f"}


def load(folder, **fields):
    path = folder / "set.yaml"
    lines = {"title": "t", "folder": "f"} | fields
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return load_manifest(path)


def test_valid_fields_of_a_manifest(tmp_path):
    assert load(tmp_path, **SCORED).score.high == 5
    assert load(tmp_path, **SCENES_ALONE).score is None and load(tmp_path, **MADE).score is None
    hosted, pinned = HubFields.model_validate(HOSTED), RepositoryFields(**PINNED)
    for value in (HOSTED, [HOSTED, LOOSE]):
        manifest = load(tmp_path, **SCENES_ALONE, hub=json.dumps(value))
        assert manifest.hosted[0] == hosted and manifest.can_be_fetched
    assert manifest.hosted[1].name == "a.csv"
    assert load(tmp_path, **SCENES_ALONE, repository=json.dumps(PINNED)).repositories == [pinned]
    two = load(tmp_path, **SCENES_ALONE, repository=json.dumps([PINNED] * 2))
    assert two.repositories == [pinned, pinned]
    nothing = load(tmp_path, **SCENES_ALONE)
    assert nothing.repositories == nothing.hosted == [] and not nothing.can_be_fetched


def dropped(fields, *names):
    return {name: value for name, value in fields.items() if name not in names}


@pytest.mark.parametrize(
    ("fields", "line", "name"),
    [
        (SCORED | {"score": "{column: mos, range: [5, 1]}"}, 4, "low < high"),
        (SCORED | {"score": "{column: mos, range: [1, .inf]}"}, 4, "score.range.1"),
        (SCORED | {"reference_pattern": "p"}, 5, "reference_pattern.*parentheses"),
        (SCORED | {"score": "{column: mos, range: [1, 5], direction: up}"}, 4, "score.direction"),
        (SCORED | {"score": "{range: [1, 5]}"}, 4, "score.column"),
        (SCORED | {"labels": "{form: csv, file: scores.csv}"}, 3, "'image'"),
        (SCORED | {"labels": "{form: excel, file: scores.csv, image: a}"}, 3, "labels.form"),
        (SCORED | {"colour": "blue"}, 5, "colour"),
        (SCORED | {"images": 0}, 5, "images"),
        (dropped(SCORED, "score"), 3, "score"),
        ({"labels": "{form: biq2021, train: a.csv, test: b.csv, image: name}"}, 3, "score"),
        ({"labels": "{form: scenes}"}, 3, "file"),
        ({"labels": "{form: distorted, best_of: biq2021, best: 3}"}, 3, "photographs"),
        (SCENES_ALONE | {"hub": HOSTED | {"repository": "n"}}, 4, "hub.0"),
        (SCENES_ALONE | {"hub": HOSTED | {"revision": "main"}}, 4, "hub.0"),
        (SCENES_ALONE | {"repository": PINNED | {"commit": "main"}}, 4, "repository.0.commit"),
        (SCENES_ALONE | {"repository": [PINNED, PINNED | {"url": "http://a.org/b"}]}, 4, "repository.1.url"),
        (SCENES_ALONE | {"repository": []}, 4, "repository"),
        (SCENES_ALONE | {"repository": PINNED | {"folder": "g"}}, 4, "repository.0.folder"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, fields, line, name):
    as_yaml = {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}
    with pytest.raises(ManifestError, match=rf"(?s)set\.yaml.*line {line}, .*{name}"):
        load(tmp_path, **as_yaml)


def test_distortion_counts_must_sum_to_the_images(tmp_path):
    with pytest.raises(ManifestError, match="images"):
        own_set(tmp_path, images=6, expect="{distortions: {blur: 2, noise: 3}}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title: t\nfolder: [", "line 2: .*YAML"),
        ("", "fields"),
        ("- a\n", "fields"),
        ("x: 1\n", "title.*; .*x: "),
        ("title: t\nscore: a\nscore: b\n", "line 3: .*'score'"),
        ("title: " + 5000 * "[", "recursion"),
        ("title: 2020-13-45", "month"),
    ],
)
def test_an_invalid_manifest_is_rejected(tmp_path, text, says):
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=rf"m\.yaml.*{says}") as raised:
        load_manifest(path)
    assert "\n" not in str(raised.value)


def test_an_unknown_name_lists_the_known_manifests(tmp_path):
    with pytest.raises(ManifestError, match="csiq"):
        load_manifest("livee")
    with pytest.raises(ManifestError, match=r"none\.yaml"):
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
