"""Scoring lists of images: order, batches, an unreadable file among good ones, and clean-up."""

import contextlib
import io
import re
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from support.models import of_twelve_prompts
from support.server import FileServer, Handler, running, serving

from liqe_core.crops import normalize, scoring_crops
from liqe_core.images import ImageError
from liqe_core.intake.transfers import FetchError, fetch_bytes

small_liqe = pytest.fixture(of_twelve_prompts)


@pytest.fixture
def folder(image, tmp_path):
    """Images of several sizes, from fifteen windows and more down to one."""
    for i, size in enumerate([(640, 427), (100, 80), (32, 32), (900, 800), (40, 300)]):
        image.resize(size).save(tmp_path / f"{i}.png")
    return tmp_path


def one_by_one(model, path):
    crops = normalize(scoring_crops(Image.open(path), model.geometry))
    with torch.no_grad():
        return model(crops[None])[0]


def test_a_uniform_image_has_a_note(small_liqe):
    pixels = np.full((90, 120, 3), (40, 80, 120), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    speck = pixels.copy()
    speck[45, 60] += 1
    prediction = small_liqe.score([Image.fromarray(pixels), pixels, tensor, speck])
    assert sorted(prediction.notes) == [0, 1, 2] and "uniform" in prediction.to_frame()["note"][0]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batches_do_not_matter(small_liqe, folder, batch_size):
    files = sorted(folder.iterdir())
    prediction = small_liqe.score(files, batch_size=batch_size)
    expected = torch.stack([one_by_one(small_liqe, file) for file in files])
    torch.testing.assert_close(prediction.joint, expected, atol=1e-6, rtol=0)
    assert prediction.images == tuple(map(str, files)) and prediction.errors == {}


def test_one_image_in_any_form(small_liqe, folder):
    path = folder / "0.png"
    expected = one_by_one(small_liqe, path)
    with Image.open(path) as opened:
        copy = opened.copy()
        pixels = np.array(copy)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        forms = [path, str(path), opened, copy, [path], iter([path]), (p for p in [str(path)])]
        forms += [path.read_bytes(), bytearray(path.read_bytes()), pixels, tensor, [tensor], tensor.double()]
        for form in forms:
            prediction = small_liqe.score(form)
            assert len(prediction) == 1
            torch.testing.assert_close(prediction.joint[0], expected, atol=1e-6, rtol=0)
    assert small_liqe.score(copy).images == ("image 0",)


def test_many_in_many_forms_at_once(small_liqe, folder):
    """Crops of uint8 and of floats meet in one batch."""
    names = ["3.png", "0.png", "1.png", "4.png"]
    pixels = [np.array(Image.open(folder / name)) for name in names]
    two = torch.stack([torch.from_numpy(pixels[2])] * 2).permute(0, 3, 1, 2) / 255
    inputs = [folder / "0.png", two, pixels[3], (folder / "3.png").read_bytes()]
    prediction = small_liqe.score(inputs, batch_size=3)
    expected = [one_by_one(small_liqe, folder / n) for n in ("0.png", "1.png", "1.png", "4.png", "3.png")]
    torch.testing.assert_close(prediction.joint, torch.stack(expected), atol=1e-5, rtol=0)
    names = ("image 1", "image 2", "image 3", "image 4")
    assert prediction.images == (str(folder / "0.png"), *names)


def test_a_folder_is_the_images_in_it(small_liqe, folder, tmp_path_factory):
    (folder / "more").mkdir()
    (folder / "more" / "5.png").write_bytes((folder / "1.png").read_bytes())
    (folder / "list.txt").touch()
    (empty := tmp_path_factory.mktemp("empty")).joinpath("x.txt").touch()
    assert len(small_liqe.score([]).to_frame()) == 0
    assert "empty" in small_liqe.score("", on_error="skip").errors[0]
    prediction = small_liqe.score([folder, empty, folder / "1.png"], on_error="skip")
    below = [str(folder / name) for name in ("0.png", "1.png", "2.png", "3.png", "4.png", "more/5.png")]
    assert prediction.images == (*below, str(empty), str(folder / "1.png"))
    assert list(prediction.errors) == [6] and prediction.errors[6].startswith(f"{empty}: ")
    assert float(prediction.quality[1]) == pytest.approx(float(prediction.quality[5]), abs=1e-6)
    assert prediction.left_out == {
        "files of other types (.txt)": (str(folder / "list.txt"), str(empty / "x.txt"))
    }


def test_an_image_object_is_named_by_its_position(small_liqe, folder):
    outside = torch.rand(2, 3, 40, 40)
    outside[1, 0, 0, 0] = 1.5
    nan = torch.full((1, 3, 40, 40), torch.nan)
    small = np.zeros((20, 40, 3), np.uint8)
    inputs = [folder / "1.png", b"no image", outside, nan, small, b"", b"<!DOCTYPE html>"]
    errors = small_liqe.score([*inputs, Image.new("RGB", (0, 0))], on_error="skip").errors
    assert sorted(errors) == [1, 3, 4, 5, 6, 7, 8]
    words = {1: "Pillow", 3: "1.5", 4: "nan", 5: "40 x 20", 6: "empty", 7: "web page", 8: "0 x 0"}
    assert all(f"image {i}: " in errors[i] and word in errors[i] for i, word in words.items())
    with pytest.raises(ImageError, match=r"image 0: .*nan"):
        small_liqe.score(nan)


def test_a_image_from_the_web(small_liqe, folder, monkeypatch):
    content = (folder / "1.png").read_bytes()
    files = {"1.png": content, "page.jpg": b"<html>log in", "cut.png": content, "none.png": b""}
    with serving(files) as server:
        prediction = small_liqe.score(server.url + "1.png")
        torch.testing.assert_close(prediction.joint[0], one_by_one(small_liqe, folder / "1.png"))
        assert prediction.images == (server.url + "1.png",)
        names = [server.url + name for name in ("absent.png", "page.jpg", "none.png")] + ["ftp://host/a"]
        errors = small_liqe.score(names, on_error="skip").errors
        for i, word in enumerate(("404", "web page", "empty", "https")):
            assert errors[i].startswith(f"{names[i]}: ") and word in errors[i]
        server.cuts = [100]
        with pytest.raises(ImageError, match=r"cut\.png: .*connection"):
            small_liqe.score(server.url + "cut.png")
        monkeypatch.setattr("liqe_core.images.MAX_BYTES", len(content))
        assert len(small_liqe.score(server.url + "1.png")) == 1
        monkeypatch.setattr("liqe_core.images.MAX_BYTES", len(content) - 1)
        with pytest.raises(ImageError, match=r"1\.png: over"):
            small_liqe.score(server.url + "1.png")
    with pytest.raises(ImageError, match=r"1\.png: .*connection"):
        small_liqe.score(server.url + "1.png")


def test_a_download_without_a_length_is_limited(monkeypatch):
    """A server that streams without an end."""

    class Endless(Handler):
        def answer(self, body):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(65536))

    with running(FileServer({}, Endless)) as server, pytest.raises(FetchError, match="over"):
        fetch_bytes(server.url, 300_000)
    with running(FileServer({}, Endless)) as server, pytest.raises(FetchError, match="0 seconds"):
        fetch_bytes(server.url, 10**9, total=0)


def test_a_bad_file_does_not_lose_the_others(small_liqe, folder):
    (folder / "text.jpg").write_text("no image")
    Image.new("RGB", (31, 90)).save(folder / "small.png")
    files = [folder / n for n in ("0.png", "text.jpg", "missing.jpg", "1.png", "small.png", "2.png")]
    prediction = small_liqe.score(files, on_error="skip", batch_size=2)
    assert sorted(prediction.errors) == [1, 2, 4]
    assert "text.jpg" in prediction.errors[1] and "missing.jpg" in prediction.errors[2]
    assert "small.png: 31 x 90" in prediction.errors[4]
    for i in (0, 3, 5):
        torch.testing.assert_close(prediction.joint[i], one_by_one(small_liqe, files[i]), atol=1e-6, rtol=0)
    assert prediction.joint[[1, 2, 4]].isnan().all() and prediction.quality[[1, 2, 4]].isnan().all()
    assert prediction.to_frame().error.notna().tolist() == [False, True, True, False, True, False]


def test_raise_stops_and_leaves_no_thread(small_liqe, folder):
    (folder / "text.jpg").write_text("no image")
    before = set(threading.enumerate())
    with pytest.raises(ImageError, match=r"text\.jpg"):
        small_liqe.score([folder / "0.png", folder / "text.jpg", *[folder / "3.png"] * 40], batch_size=1)
    assert set(threading.enumerate()) <= before
    assert len(small_liqe.score([folder / "0.png"] * 3)) == 3
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "images, words",
    [
        (3, "image 0 is int"),
        (np.zeros((40, 40), np.uint8), "(40, 40)"),
        (np.zeros((40, 40, 3)), "float64"),
        (["a.png", torch.zeros(3, 40, 40)], "image 1"),
        (torch.zeros(1, 3, 40, 40, dtype=torch.uint8), "uint8"),
        (io.BytesIO(b"a\nb"), "BytesIO"),
        (memoryview(b"ab"), "memoryview"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_no_image_at_all_is_a_mistake_of_the_caller(small_liqe, images, words, on_error):
    with pytest.raises(TypeError, match=re.escape(words)):
        small_liqe.score(images, on_error=on_error)


def test_misspelled_options(small_liqe):
    with pytest.raises(ValueError, match=r"on_error.*'ignore'"):
        small_liqe.score([], on_error="ignore")
    with pytest.raises(ValueError, match=r"precision.*'half'"):
        small_liqe.score([], precision="half")
    for size in (0, 1.5, "8"):
        with pytest.raises(ValueError, match=f"batch_size.*{size!r}"):
            small_liqe.score([], batch_size=size)


def test_every_submodule_keeps_its_mode(small_liqe, folder):
    small_liqe.train()
    small_liqe.clip.visual.eval()  # as one freezes batch norms
    before = [module.training for module in small_liqe.modules()]
    small_liqe.score(folder / "2.png")
    with pytest.raises(ImageError):
        small_liqe.score(folder / "none.png")
    assert [module.training for module in small_liqe.modules()] == before and len(set(before)) == 2


def test_precision_rounds_only_products_of_the_image_tower(small_liqe, folder):
    files = sorted(folder.iterdir())
    exact, rounded = small_liqe.score(files).joint, small_liqe.score(files, precision="bfloat16").joint
    assert rounded.dtype == torch.float32 and 1e-6 < (exact - rounded).abs().max() < 0.1
    torch.testing.assert_close(rounded.sum(dim=(1, 2, 3)), torch.ones(len(files)), atol=1e-6, rtol=0)
    crops = normalize(scoring_crops(Image.open(files[1]), small_liqe.geometry))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            image = small_liqe.clip.encode_image(crops).float()
        image = torch.nn.functional.normalize(image, dim=-1)
        logits = small_liqe.clip.logit_scale.exp() * image @ small_liqe.text().T
        expected = logits.mean(dim=0).softmax(dim=0).view(small_liqe.grid.shape)
    alone = small_liqe.score(files[1], precision="bfloat16").joint[0]
    torch.testing.assert_close(alone, expected, atol=1e-6, rtol=0)
    assert torch.equal(small_liqe.score(files).joint, exact), "and no state remains"


def test_progress_bar(small_liqe, folder, capsys, monkeypatch):
    with monkeypatch.context() as terminal:
        terminal.setattr(sys.stderr, "isatty", lambda: True)
        small_liqe.score(sorted(folder.iterdir()), progress=True)
        assert "5/5" in capsys.readouterr().err
    small_liqe.score(sorted(folder.iterdir()))
    assert capsys.readouterr().err == ""
