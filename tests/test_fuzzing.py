"""Damaged headers: a file is read, or rejected in one line. LIQE_DAMAGED=1000 tries 1000 of each kind."""

import faulthandler
import io
import os
import random
import traceback
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, features
from safetensors.torch import save
from support.models import of_twelve_prompts

from liqe_core import LIQE
from liqe_core.images import ImageError, read_image

#: Formats by Pillow's name.
FORMATS = ("BMP", "DIB", "GIF", "ICO", "JPEG", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF")
OPTIONAL = {"JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}

#: What nothing that is read may call.
FORBIDDEN = ("os.system", "os.execve", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.socket")

#: Values that replace lengths and offsets.
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


@pytest.fixture
def called(monkeypatch):
    """The forbidden functions that were called; a test that hangs ends with a traceback."""
    names = []
    for name in FORBIDDEN:
        monkeypatch.setattr(name, lambda *_, name=name, **__: names.append(name))
    faulthandler.dump_traceback_later(600, exit=True)
    yield names
    faulthandler.cancel_dump_traceback_later()


def images():
    """A small image in every format that is installed, and a TIFF that libtiff compresses, by name."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    forms = {name: {} for name in FORMATS} | {"ICO": {"sizes": [(40, 40)]}}
    forms |= {name: {} for name, feature in OPTIONAL.items() if features.check(feature)}
    written = {}
    for name, options in (*forms.items(), ("TIFF, LZW", {"compression": "tiff_lzw"})):
        file = io.BytesIO()
        image.save(file, name.partition(",")[0], **options)
        written[name] = file.getvalue()
    return written


def checkpoints(folder):
    """A small model in every form that a file of weights may have."""
    model = of_twelve_prompts()
    model.save(folder / "ours")
    state = model.clip.state_dict()
    forms = {"ours": (folder / "ours").read_bytes(), "bare": save(state)}
    for name in ("zip", "legacy"):
        file = io.BytesIO()
        torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=name == "zip")
        forms[name] = file.getvalue()
    return forms


def mutated(content, rng, header=200):
    """The same with one to four changes, most of them in the first `header` bytes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), header) if rng.random() < 0.8 else len(data))
        size = rng.choice((1, 2, 4))
        number = rng.choice(NUMBERS) & (256**size - 1)
        change = rng.choice(("bytes", "number", "deletion", "insertion", "end"))
        if change == "bytes":
            data[at] ^= rng.randrange(1, 256)
        elif change == "number":
            data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif change == "deletion":
            del data[at : at + rng.randint(1, 16)]
        elif change == "insertion":
            data[at:at] = rng.randbytes(rng.randint(1, 16))
        else:
            del data[rng.randrange(len(data)) :]
        data = data or bytearray(b"\0")
    return bytes(data)


def assert_read_or_refused(whole, read, refusal, count, header=200):
    """Read damaged files; at least a quarter must be rejected, each in one line."""
    refused, wrong = 0, []
    for i in range(count):
        name = list(whole)[i % len(whole)]
        try:
            with warnings.catch_warnings(action="ignore"):
                read(mutated(whole[name], random.Random(i), header))
        except refusal as error:
            refused += 1
            if len(str(error).strip().splitlines()) != 1:
                wrong.append(f"{name}, number {i}: not one line: {error}")
        except Exception:
            wrong.append(f"{name}, number {i}: {traceback.format_exc()}")
    assert wrong == [] and refused > count // 4, "they are damaged"


def test_damaged_images_crash_hang_and_start_nothing(called):
    def read(content):
        image = read_image(content)
        assert image.mode == "RGB" and len(image.tobytes()) == 3 * image.width * image.height > 0

    assert_read_or_refused(images(), read, ImageError, int(os.environ.get("LIQE_DAMAGED", "300")))
    assert called == []


def test_damaged_checkpoints_crash_hang_and_start_nothing(tmp_path, called):
    def read(content):
        (tmp_path / "damaged").write_bytes(content)
        LIQE.from_checkpoint(tmp_path / "damaged")

    count = int(os.environ.get("LIQE_DAMAGED", "40"))
    assert_read_or_refused(checkpoints(tmp_path), read, ValueError, count, header=2000)
    assert called == []


def test_no_score_without_an_image():
    damaged = [mutated(content, random.Random(name)) for name, content in images().items()]
    prediction = of_twelve_prompts().score([*images().values(), *damaged], on_error="skip")
    assert not prediction.errors.keys() & set(range(len(images()))), "the intact images"
    for i, quality in enumerate(prediction.quality.tolist()):
        assert (quality != quality) == (i in prediction.errors)
