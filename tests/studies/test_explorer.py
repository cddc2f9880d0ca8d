"""One image, degraded by hand: positions of the sliders in, an answer out."""

import numpy as np
import pytest
from PIL import Image
from support.models import of_twelve_prompts

from liqe_core.data.distortions import distort
from liqe_core.images import ImageError
from liqe_core.studies.explorer import FAULTS, SHORTER_SIDE, degrade, look, modest


def test_without_distortion_the_answer_equals_score(image):
    model = of_twelve_prompts()
    pixels, joint, windows = look(model, np.asarray(image))
    scored = model.score(image)
    assert joint.to_numpy() == pytest.approx(scored.joint.flatten().numpy(), abs=1e-6)
    assert joint.index[1] == ("bad", "sea", "noise")
    assert joint.index.names == ["quality", "scene", "distortion"]
    assert pixels.shape == (427, 640, 3) and len(windows) == 15 and (windows["side"] == 32).all()


def test_the_quality_of_a_window_depends_on_its_pixels_only(image):
    model = of_twelve_prompts()
    pixels, _, windows = look(model, np.asarray(image), {"noise": 3}, count=4)
    assert len(windows) == 4
    y, x, side, quality = windows.iloc[2]
    part = pixels[int(y) : int(y + side), int(x) : int(x + side)]
    assert float(model.score(part).quality[0]) == pytest.approx(quality, abs=1e-5)


def test_faults_are_those_of_the_data_sets_in_the_order_of_a_camera(photograph):
    assert (degrade(photograph, {}) == photograph).all()
    assert (degrade(photograph, dict.fromkeys(FAULTS, 0)) == photograph).all()
    both = distort(distort(photograph, "darken", 5), "jpeg", 4)
    assert (degrade(photograph, {"JPEG": 4, "darkness": 5}) == both).all()


@pytest.mark.parametrize(("positions", "word"), [({"rain": 1}, "rain: .*JPEG"), ({"blur": 6}, "no level 6")])
def test_unknown_faults_and_levels_are_rejected(photograph, positions, word):
    with pytest.raises(ValueError, match=word):
        degrade(photograph, positions)


def test_modest_is_upright_and_no_larger_than_it_must_be(tmp_path):
    camera = Image.new("RGB", (1200, 600), "red")
    camera.save(tmp_path / "held.jpg")
    assert modest(tmp_path / "held.jpg").shape == (SHORTER_SIDE, 2 * SHORTER_SIDE, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    camera.save(tmp_path / "held.jpg", exif=exif)
    assert modest((tmp_path / "held.jpg").read_bytes()).shape == (2 * SHORTER_SIDE, SHORTER_SIDE, 3)
    assert modest(Image.new("RGB", (300, 200))).shape == (200, 300, 3), "a small image is unchanged"
    with pytest.raises(ImageError, match="no such file"):
        modest(tmp_path / "none.jpg")
