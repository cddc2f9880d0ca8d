"""Images of all formats that must be read, and files that must be rejected by name."""

import os
import signal
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile

from liqe_core import images
from liqe_core.images import ImageError, list_images, read_image, suffixes, survey
from liqe_core.intake.stopping import stoppable


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def jpeg_path(image, tmp_path):
    image.save(tmp_path / "whole.jpg")
    return tmp_path / "whole.jpg"


@pytest.fixture
def cut_short(jpeg_path):
    path = jpeg_path.with_name("cut.jpg")
    path.write_bytes(jpeg_path.read_bytes()[: jpeg_path.stat().st_size // 2])
    return path


NO_IMAGES = {
    "letter in a number.ppm": b"P6\n2l5 10\n255\n" + bytes(900),
    "endless number.ppm": b"P6\n" + b"1" * 40,
    "by Ghostscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\nshowpage\n",
    "unknown mode.ppm": b"\x01\xda\x00\x01\x00\x09" + bytes(506),
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_an_invalid_image_is_rejected_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(NO_IMAGES[name])
    with pytest.raises(ImageError, match=f"{name}: "):
        read_image(tmp_path / name)


def test_paths_without_a_file(tmp_path):
    with pytest.raises(images.ImageNotFoundError, match=r"none\.jpg"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(FileNotFoundError):
        read_image(str(tmp_path / "none.jpg"))
    for path in (tmp_path, "x" * 5000, "a\0b"):
        with pytest.raises(ImageError):
            read_image(path)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_cut_short(cut_short, jpeg_path, monkeypatch, elsewhere):
    """Also where the program accepts such files elsewhere, by Pillow's global setting."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", elsewhere)
    with pytest.raises(ImageError, match=r"cut\.jpg: .*truncated"):
        read_image(cut_short)
    accepted = np.asarray(read_image(cut_short, truncated="accept"))
    assert np.array_equal(accepted[:100], np.asarray(read_image(jpeg_path))[:100])
    assert np.ptp(accepted[-1]) == 0, "the missing part has one color"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is elsewhere


def test_a_pillow_image_cut_short(cut_short):
    with Image.open(cut_short) as image, pytest.raises(ImageError, match=r"cut\.jpg"):
        read_image(image)
    with Image.open(cut_short) as image:
        assert read_image(image, truncated="accept").size == image.size


@pytest.mark.parametrize("size", [(10_000, 10_000), (14_000, 14_000), (60_000, 60_000)])
def test_decompression_bomb(tmp_path, size):
    # above our limit; above twice Pillow's own; far above
    assert size[0] * size[1] > images.MAX_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=rf"bomb\.png: {size[0]} x {size[1]} .*max_pixels"):
        read_image(path)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_advice_in_the_error_about_bombs_works(image, tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    image.save(path)
    limit = 640 * 427 - 1
    with pytest.raises(ImageError, match="640 x 427"):
        read_image(path, max_pixels=limit)
    with Image.open(path) as undecoded, pytest.raises(ImageError):
        read_image(undecoded, max_pixels=limit)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    trusted = read_image(path, max_pixels=None)
    assert Image.MAX_IMAGE_PIXELS == 1000, "Pillow's own limit is as it was"
    assert read_image(trusted, max_pixels=limit).size == (640, 427), "in memory it can do no more harm"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "YCbCr"])
def test_modes_are_converted_as_pillow_does(image, tmp_path, mode):
    if mode == "RGBA":
        image.putalpha(0)  # which changes no colour: alpha is dropped
    path = tmp_path / {"CMYK": "x.jpg", "YCbCr": "x.tif"}.get(mode, "x.png")
    (image.quantize(64) if mode == "P" else image.convert(mode)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
        expected = np.asarray(stored.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(path)), expected)


def test_sixteen_bit_grey(tmp_path):
    levels = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    # divided by 257 and rounded: 128 / 257 = 0.498, 129 / 257 = 0.502, 127.50, 254.498, 254.502
    by_hand = [0, 0, 1, 1, 128, 254, 255, 255]
    for suffix in ("png", "tif"):
        Image.fromarray(levels).save(tmp_path / f"deep.{suffix}")
        assert np.asarray(read_image(tmp_path / f"deep.{suffix}"))[0, :, 0].tolist() == by_hand
    assert np.asarray(read_image(Image.fromarray(levels.astype(np.int32))))[0, :, 0].tolist() == by_hand
    clipped = np.asarray(read_image(tmp_path / "deep.png", sixteen_bit="clip"))[0, :, 0]
    assert clipped.tolist() == [0, 128, 129, 255, 255, 255, 255, 255]


def test_one_image_read_by_many_threads(jpeg_path):
    expected = np.asarray(read_image(jpeg_path))
    before = set(threading.enumerate())
    for _ in range(10):
        image = Image.open(jpeg_path)
        with ThreadPoolExecutor(4) as pool:
            for result in pool.map(read_image, [image] * 8):
                assert np.array_equal(np.asarray(result), expected)
    assert set(threading.enumerate()) <= before, "reading leaves no thread running"


def test_misspelled_options(jpeg_path):
    with pytest.raises(ValueError, match=r"truncated.*'yes'"):
        read_image(jpeg_path, truncated="yes")
    with pytest.raises(ValueError, match=r"sixteen_bit.*'auto'"):
        read_image(jpeg_path, sixteen_bit="auto")


def test_image_files_are_recognized_by_one_rule(tmp_path):
    assert {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif"} <= suffixes()
    assert {".jp2", ".avif"} <= suffixes(), "all formats that Pillow can read"
    assert suffixes().isdisjoint({".txt", ".csv", ".pdf", ".eps", ".h5", ".mpg"}), (
        "nor formats without photographs"
    )
    (tmp_path / "below" / ".hidden" / "empty").mkdir(parents=True)
    for name in ("b.PNG", "a.jpg", ".c.jpg", "notes.txt", "below/d.webp", "below/.hidden/e.jpg"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["a.jpg", "b.PNG", "below/d.webp"] == images.images_in(tmp_path)
    assert list_images(tmp_path / "nowhere") == []
    with pytest.raises(NotADirectoryError, match="nowhere"):
        images.images_in(tmp_path / "nowhere")
    with pytest.raises(ImageError):
        images.images_in(tmp_path / "below" / ".hidden" / "empty")


def test_reading_ahead_keeps_the_order_and_stops_with_the_caller():
    begun = []

    def read(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise ValueError("the fifth")
        return number * number

    assert list(images.read_ahead(read, range(5), readers=3)) == [0, 1, 4, 9, 16]
    assert list(images.read_ahead(read, [])) == []
    begun.clear()
    with pytest.raises(ValueError, match="the fifth"):
        list(images.read_ahead(read, range(1000), readers=1, ahead=2))
    assert begun[:6] == [0, 1, 2, 3, 4, 5] and len(begun) <= 8, "files that were not started are not read"
    begun.clear()
    ahead = images.read_ahead(read, range(1000), readers=2, ahead=3)
    assert next(ahead) == 0
    ahead.close()
    assert len(begun) <= 6 and threading.active_count() < 50


def test_reading_ahead_waits_for_its_threads_though_a_signal_has_ended_earlier_work():
    with stoppable(between_steps=True):
        os.kill(os.getpid(), signal.SIGTERM)
    before = set(threading.enumerate())
    ahead = images.read_ahead(time.sleep, [0.0, 0.2, 0.2], readers=2)
    next(ahead)
    ahead.close()
    assert set(threading.enumerate()) <= before


def test_a_survey_lists_excluded_files_and_follows_links(tmp_path, monkeypatch):
    images, linked = tmp_path / "images", tmp_path / "linked"
    for folder in (images / "below", images / "closed", linked):
        folder.mkdir(parents=True)
    for name in ("a.jpg", "._a.jpg", "notes.txt", "scan", "below/b.PNG", "closed/c.png", "../linked/d.jpg"):
        (images / name).touch()
    (images / "round").symlink_to(images)
    (images / "below" / "up").symlink_to("..")
    (images / "again").symlink_to("below")
    (images / "more").symlink_to(linked)
    (images / "also").symlink_to(linked)
    (images / "gone.jpg").symlink_to("nowhere.jpg")
    (images / "self").symlink_to("self")
    os.mkfifo(images / "pipe.jpg")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = survey(images)
    assert found.images == ["a.jpg", "also/d.jpg", "below/b.PNG", "gone.jpg"]
    assert found.left_out == {
        "hidden": ["._a.jpg"],
        "files of other types (.txt)": ["notes.txt"],
        "files without a suffix": ["scan", "self"],
        "folders that cannot be read (Permission denied)": ["closed"],
        "links to folders that are already listed": ["again", "below/up", "more", "round"],
        "pipes and devices": ["pipe.jpg"],
    }
    with pytest.raises(ImageError, match="pipe"):
        read_image(images / "pipe.jpg")


def test_images_of_telephones(image, tmp_path):
    if ".heic" not in suffixes():
        (tmp_path / "x.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
        assert list(survey(tmp_path).left_out) == [f"images that need a plug-in: {images.HEIF_ADVICE}"]
        with pytest.raises(ImageError, match=r"x\.HEIC: .*pillow-heif"):
            read_image(tmp_path / "x.HEIC")
    else:
        image.save(tmp_path / "x.HEIC", "HEIF", quality=100)
        read = np.asarray(read_image(tmp_path / "x.HEIC")).astype(int)
        assert np.abs(read - np.asarray(image)).mean() < 3
    image.save(tmp_path / "x.avif", quality=100)
    assert np.abs(np.asarray(read_image(tmp_path / "x.avif")).astype(int) - image).mean() < 3
