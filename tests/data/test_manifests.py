import pytest
from support.data import own_set

from liqe_core.data.manifests import ManifestError, available, load_manifest

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
    "biq2021": 12000,
}


def test_every_published_set_has_a_manifest_that_passes_the_schema():
    assert set(PUBLISHED) <= set(available())
    assert available()[:6] == ["live", "csiq", "kadid10k", "bid", "clive", "koniq10k"]
    for name in available():
        manifest = load_manifest(name)
        assert manifest.name == name and manifest.title
        assert manifest.images == PUBLISHED.get(name, manifest.images)


@pytest.mark.parametrize("name", ["live", "csiq", "kadid10k", "bid", "clive", "koniq10k"])
def test_sessions_of_a_training_set_add_up(name):
    manifest = load_manifest(name)
    assert len(manifest.sessions) == 10
    assert {sum(parts) for parts in manifest.sessions} == {manifest.images}
    assert sum(manifest.distortions.values()) == manifest.images


def test_five_lines_are_enough_for_ones_own_pictures(tmp_path):
    manifest = own_set(tmp_path, role="user")
    assert len(manifest.path.read_text().splitlines()) == 5
    assert manifest.locate() == tmp_path / "photographs", "paths are relative to the manifest"
    assert manifest.score.direction == "higher" and manifest.access == "unknown"


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
        ("score", "{column: opinion, range: [1]}", 4, "too short"),
        ("score", "{column: opinion, range: [1, 5], direction: up}", 4, "'up' is not one of"),
        ("score", "{range: [1, 5]}", 4, "'column' is a required property"),
        ("labels", "{form: csv, file: scores.csv}", 3, "needs 'image'"),
        ("labels", "{form: excel, file: scores.csv, image: a}", 3, "'excel' is not one of"),
        ("colour", "blue", 1, "'colour' was unexpected"),
        ("images", "0", 5, "less than the minimum"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, field, value, line, says):
    with pytest.raises(ManifestError) as error:
        own_set(tmp_path, **{field: value})
    assert "holiday.yaml" in str(error.value)
    assert f"line {line}, " in str(error.value) and says in str(error.value)


def test_distortion_counts_must_sum_to_the_images(tmp_path):
    with pytest.raises(ManifestError, match="sum to 5, but images is 6"):
        own_set(tmp_path, images=6, expect="{distortions: {blur: 2, noise: 3}}")


@pytest.mark.parametrize(
    ("text", "says"),
    [("title: [", "not YAML"), ("", "holds no fields"), ("- a\n", "holds no fields"), ("x: 1\n", "'title'")],
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
