"""Images and checkpoints whose headers were damaged at random: each is read, or refused in a sentence."""

from __future__ import annotations

import contextlib
import io
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features
from safetensors.torch import save
from support.models import of_twelve_prompts

#: Formats by Pillow's name.
FORMATS = ("BMP", "DIB", "GIF", "ICO", "JPEG", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF")
OPTIONAL = {"JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}

#: What nothing that is read may do.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")

#: Numbers that lengths and offsets are replaced by.
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


class HangError(BaseException):
    """It took too long."""


def images() -> dict[str, bytes]:
    """A small image in every format that is installed, and a TIFF that libtiff compresses."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    written = {}
    for name in (*FORMATS, *(name for name, feature in OPTIONAL.items() if features.check(feature))):
        file = io.BytesIO()
        image.save(file, name, **({"sizes": [(40, 40)]} if name == "ICO" else {}))
        written[name] = file.getvalue()
    file = io.BytesIO()
    image.save(file, "TIFF", compression="tiff_lzw")
    return written | {"TIFF, LZW": file.getvalue()}


def checkpoints(folder: Path) -> dict[str, bytes]:
    """A small model in every form that a file of weights may have."""
    model = of_twelve_prompts()
    model.save(folder / "ours")
    state, forms = model.clip.state_dict(), {}
    for name, zipped in (("zip", True), ("legacy", False)):
        file = io.BytesIO()
        torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=zipped)
        forms[name] = file.getvalue()
    return forms | {"ours": (folder / "ours").read_bytes(), "bare": save(state)}


def mutated(content: bytes, rng: random.Random, header: int = 200) -> bytes:
    """The same with one to four changes, most of them in the first `header` bytes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), header) if rng.random() < 0.8 else len(data))
        change = rng.randrange(5)
        if change == 0:
            data[at] ^= rng.randrange(1, 256)
        elif change == 1:
            size = rng.choice((2, 4))
            number = rng.choice(NUMBERS) & (256**size - 1)
            data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif change == 2:
            del data[at : at + rng.randint(1, 16)]
        elif change == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 16))
        else:
            del data[rng.randrange(len(data)) :]
        data = data or bytearray(b"\0")
    return bytes(data)


def try_damaged(
    whole: dict[str, bytes],
    read: Callable[[bytes], object],
    refusal: type[Exception],
    count: int,
    header: int,
) -> tuple[int, list[str]]:
    """Read so many damaged files, for at most a minute each.

    Returns:
        How many were refused; and what went wrong, in words.
    """
    refused, wrong, names = 0, [], list(whole)
    with _nothing_started() as started, warnings.catch_warnings(action="ignore"):
        for i in range(count):
            name = names[i % len(names)]
            content = mutated(whole[name], random.Random(i), header)
            try:
                with _at_most(60):
                    read(content)
            except refusal as error:
                refused += 1
                if len(str(error).strip().splitlines()) != 1:
                    wrong.append(f"{name}, number {i}: not one sentence: {error}")
            except (Exception, HangError):
                wrong.append(f"{name}, number {i}: {traceback.format_exc()}")
            wrong += [f"{name}, number {i}: started {event}" for event in started]
            started.clear()
    return refused, wrong


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def hang(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _nothing_started() -> Iterator[list[str]]:
    started: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple) -> None:  # of the interpreter, for good: it can only be silenced
        if watching[0] and event.startswith(FORBIDDEN):
            started.append(f"{event} {arguments}")

    sys.addaudithook(hook)
    try:
        yield started
    finally:
        watching[0] = False
