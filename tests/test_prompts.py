import pytest

from liqe_core.prompts import ABSENT, DISTORTIONS, SCENES, VARIANTS, GridError, PromptGrid


def test_the_papers_grid_is_quality_major_then_scene_then_distortion():
    grid = PromptGrid()
    prompts = grid.prompts
    assert grid == PromptGrid.variant(VARIANTS[-1]) and grid.shape == (5, 9, 11)
    assert grid.names("scene") == SCENES and grid.names("distortion") == DISTORTIONS
    assert len(grid) == len(prompts) == len(set(prompts)) == 495
    assert prompts[0] == "a photo of a animal with jpeg2000 compression artifacts, which is of bad quality"
    # (q, s, d) = (3, 7, 5): fourth quality, eighth scene, sixth distortion
    contrast = "a photo of a still_life with contrast artifacts, which is of good quality"
    assert prompts[3 * 99 + 7 * 11 + 5] == contrast


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_length_one_on_the_axes_they_lack(name):
    """What their prompts say is held by tests/test_model.py."""
    grid = PromptGrid.variant(name)
    assert "+".join(grid.axes) == name
    for axis, length in zip(("quality", "scene", "distortion"), grid.shape, strict=True):
        assert len(grid.names(axis)) == length and (length == 1) == (axis not in grid.axes)
        assert (grid.names(axis) == (ABSENT,)) == (axis not in grid.axes)


def test_own_words_and_template():
    words = {"quality": ["ugly", "pretty"], "scene": ["shoe", "hat"], "distortion": []}
    grid = PromptGrid(**words, template="a {quality} {scene} {{x}}")
    assert grid.prompts == ["a ugly shoe {x}", "a ugly hat {x}", "a pretty shoe {x}", "a pretty hat {x}"]
    assert PromptGrid(**grid.to_dict()) == grid


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(quality=[]), "quality"),
        (dict(quality="bad"), "quality"),
        (dict(scene=["a", ""]), r"scene\[1\]"),
        (dict(scene=["a", 3]), r"scene\[1\]"),
        (dict(distortion=["blur", "blur"]), "blur"),
        (dict(template="a {qualty} {scene} {distortion}"), "qualty"),
        (dict(template="a {quality.__class__} {scene} {distortion}"), "placeholder"),
        (dict(template="a {quality!r} {scene} {distortion}"), "placeholder"),
        (dict(template="a {} {scene} {distortion}"), "placeholder"),
        (dict(template="a {quality} photo with {distortion}"), "scene"),
        (dict(scene=[], template="a {quality} {scene} {distortion}"), "scene"),
        (dict(template="a {quality"), "template"),
    ],
)
def test_invalid_words_and_templates_are_rejected_by_name(arguments, word):
    with pytest.raises(GridError, match=word):
        PromptGrid(**arguments)


def test_unknown_variant_and_axis():
    with pytest.raises(GridError, match="all"):
        PromptGrid.variant("all")
    with pytest.raises(GridError, match="mood"):
        PromptGrid().names("mood")
