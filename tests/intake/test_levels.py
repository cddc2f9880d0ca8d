"""Pixel formats: the same image in every format is read equally, or rejected."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from liqe_core.images import ImageError, read_image


@pytest.fixture
def grey(photograph):
    """(90, 120) uint8, from black to white."""
    grey = photograph[:90, :120, 1].copy()
    grey[0, :2] = 0, 255
    return grey


def read(path, **options):
    return np.asarray(read_image(path, **options))[..., 0]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "kind, white", [("u1", 255), ("u2", 65535), ("u4", 2**32 - 1), ("f4", 1), ("f4", 255), ("i4", 255)]
)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_grey_tiff(grey, tmp_path, kind, white, photometric, compression, order):
    if photometric == "miniswhite" and (kind, white) in (("i4", 255), ("f4", 255)):
        pytest.skip("nothing says what is white")
    levels = grey.astype(np.float64) / 255 * white
    levels = white - levels if photometric == "miniswhite" else levels
    levels = levels.astype(kind) if kind[0] == "f" else np.rint(levels).astype(kind)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, levels, photometric=photometric, compression=compression, byteorder=order)
    try:
        assert np.array_equal(read(path), grey)
    except ImageError as error:  # Pillow cannot read it: an error, not a wrong score
        assert order == ">" or photometric == "miniswhite", error


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("planes", "tile"), [("contig", None), ("separate", None), ("separate", (32, 32))])
def test_colour_tiff_of_16_bits(photograph, tmp_path, planes, tile, compression, order):
    levels = photograph[:60, :80].astype(np.uint16) * 257
    levels = levels.transpose(2, 0, 1).copy() if planes == "separate" else levels
    path, options = tmp_path / "x.tif", {"photometric": "rgb", "planarconfig": planes, "tile": tile}
    tifffile.imwrite(path, levels, compression=compression, byteorder=order, **options)
    assert np.array_equal(np.asarray(read_image(path)), photograph[:60, :80])


def test_pfm_and_dark_16_bit_pgm(grey, tmp_path):
    header = f"Pf\n{grey.shape[1]} {grey.shape[0]}\n-1.0\n".encode()
    (tmp_path / "x.pfm").write_bytes(header + (grey[::-1] / 255).astype("<f4").tobytes())
    assert np.array_equal(read(tmp_path / "x.pfm"), grey)
    (tmp_path / "dark.pgm").write_bytes(b"P5\n2 1\n65535\n" + np.array([100, 200], ">u2").tobytes())
    assert read(tmp_path / "dark.pgm").tolist() == [[0, 1]], "16 bits, as the file says, however dark"


@pytest.mark.parametrize(
    "levels",
    [
        np.array([[0.0, np.nan]], np.float32),
        np.array([[-0.5, 1.0]], np.float32),
        np.array([[0.0, 3.7]], np.float32),
        np.array([[-3, 255]], np.int32),
        np.array([[0, 70000]], np.int32),
        np.array([[100, 100]], np.int8),
    ],
    ids=["NaN", "negative", "over 1", "negative whole", "over 16 bits", "signed 8 bits"],
)
def test_levels_without_a_white_point_are_rejected_by_name(tmp_path, levels):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, levels)
    with pytest.raises(ImageError, match=r"x\.tif: .*level"):
        read_image(path)
    clipped = read(path, sixteen_bit="clip")  # as Pillow and the public code do
    assert clipped.shape == levels.shape
    assert levels.dtype != np.int8 or clipped.tolist() == [[100, 100]]


def test_signed_levels_of_fits_are_rejected(tmp_path):
    head = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 64, "NAXIS2": 48, "BZERO": 32768}
    cards = "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in head.items()) + "END".ljust(80)
    pixels = np.arange(64 * 48, dtype=">i2").tobytes()
    (tmp_path / "x.fits").write_bytes(cards.ljust(2880).encode() + pixels.ljust(-len(pixels) % 2880))
    with pytest.raises(ImageError, match=r"x\.fits"):
        read_image(tmp_path / "x.fits")


def test_colour_profiles(photograph, tmp_path):
    image = Image.fromarray(photograph[:60, :80])
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    assert np.abs(np.asarray(read_image(tmp_path / "srgb.png", icc="srgb")).astype(int) - image).max() <= 1
    image.save(tmp_path / "none.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "none.png", icc="srgb")), image)
    image.save(tmp_path / "odd.png", icc_profile=b"no profile")
    assert np.array_equal(np.asarray(read_image(tmp_path / "odd.png")), image)
    with pytest.raises(ImageError, match=r"odd\.png.*ICC"):
        read_image(tmp_path / "odd.png", icc="srgb")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", icc_profile=srgb)
    with pytest.raises(ImageError, match="CMYK"):
        read_image(tmp_path / "cmyk.jpg", icc="srgb")


@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation(photograph, tmp_path, tag):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(photograph[:30, :50]).save(tmp_path / "x.png", exif=exif)
    assert read_image(tmp_path / "x.png").size == (50, 30), "as the public code does"
    with Image.open(tmp_path / "x.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(np.asarray(read_image(tmp_path / "x.png", orientation="apply")), expected)


@pytest.mark.parametrize("name", ["preview.tif", "x.NEF"])
def test_the_preview_of_a_raw_file_is_rejected(photograph, tmp_path, name):
    options = {"photometric": "rgb", "subfiletype": int(name == "preview.tif")}
    tifffile.imwrite(tmp_path / name, photograph[:60, :80], **options)
    with pytest.raises(ImageError, match=rf"{name}: .*preview.*TIFF"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("icc", ["ignore", "srgb"])
def test_lab_is_converted(tmp_path, icc):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = Image.new("RGB", (8, 8), (200, 30, 40))
    ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB").save(tmp_path / "x.tif")
    pixel = read_image(tmp_path / "x.tif", icc=icc).getpixel((0, 0))
    assert np.abs(np.array(pixel) - (200, 30, 40)).max() <= 2
