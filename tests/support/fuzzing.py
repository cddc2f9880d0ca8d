"""Pictures and checkpoints whose headers were damaged at random: each is read, or refused in a sentence.

As a script it tries a thousand of each, and names those that crash, hang for 5 seconds or start anything:

    python tests/support/fuzzing.py [HOW MANY [SEED]]
"""

from __future__ import annotations

import contextlib
import io
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features
from safetensors.torch import save

from liqe_core import LIQE, PromptGrid
from liqe_core.images import PictureError, read_picture

#: Formats by Pillow's name, and how a picture is written in each.
FORMATS: dict[str, dict] = {
    "BMP": {},
    "DIB": {},
    "GIF": {},
    "ICO": {"sizes": [(40, 40)]},
    "JPEG": {},
    "PCX": {},
    "PNG": {},
    "PPM": {},
    "SGI": {},
    "TGA": {},
    "TIFF": {},
    "TIFF ": {"compression": "tiff_lzw"},
}
OPTIONAL = {"JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}

#: What nothing that is read may do.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")

#: Numbers that lengths and offsets are replaced by.
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


class Hang(BaseException):
    """It took too long."""


def pictures() -> dict[str, bytes]:
    """A small picture in every format that is here."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    kinds = FORMATS | {name: {} for name, feature in OPTIONAL.items() if features.check(feature)}
    written = {}
    for name, options in kinds.items():
        file = io.BytesIO()
        image.save(file, name.strip(), **options)
        written[name] = file.getvalue()
    return written


def checkpoints(folder: Path) -> dict[str, bytes]:
    """A small model in every form that a file of weights may have."""
    torch.manual_seed(0)
    grid = PromptGrid(quality=["bad", "good"], scene=["sea"], distortion=["blur"])
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid)
    model.save(folder / "ours")
    state, forms = model.clip.state_dict(), {}
    for name, zipped in (("zip", True), ("legacy", False)):
        file = io.BytesIO()
        torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=zipped)
        forms[name] = file.getvalue()
    return forms | {"ours": (folder / "ours").read_bytes(), "bare": save(state)}


def mutated(content: bytes, rng: random.Random, header: int = 200) -> bytes:
    """The same with one to four changes: bits, bytes, numbers, pieces taken out, put in or moved, the end cut
    off. Most are in the first `header` bytes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), header) if rng.random() < 0.8 else len(data))
        way = rng.randrange(7)
        if way == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[at] = rng.randrange(256)
        elif way == 2:
            size, order = rng.choice((2, 4)), rng.choice(("little", "big"))
            number = rng.choice(NUMBERS) & (256**size - 1)
            data[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
        elif way == 3:
            del data[at : at + rng.randint(1, 16)]
        elif way == 4:
            data[at:at] = rng.randbytes(rng.randint(1, 16))
        elif way == 5:
            source = rng.randrange(len(data))
            data[at : at + 8] = data[source : source + 8]
        else:
            del data[rng.randrange(len(data)) :]
        data = data or bytearray(b"\0")
    return bytes(data)


def try_pictures(count: int, seed: int = 0, seconds: int = 5) -> tuple[Counter, list[str]]:
    """Read so many damaged pictures.

    Returns:
        How many were read and refused, by format; and what went wrong, in words.
    """

    def read(content: bytes) -> None:
        image = read_picture(content)
        assert (
            image.mode == "RGB"
            and min(image.size) >= 1
            and len(image.tobytes()) == 3 * image.width * image.height
        )

    return _try(count, seed, seconds, pictures(), read, PictureError)


def try_checkpoints(count: int, seed: int = 0, seconds: int = 5) -> tuple[Counter, list[str]]:
    """Read so many damaged checkpoints; see `try_pictures`."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "damaged"

        def read(content: bytes) -> None:
            path.write_bytes(content)
            LIQE.from_checkpoint(path)

        return _try(count, seed, seconds, checkpoints(Path(made)), read, ValueError, header=2000)


def _try(
    count: int,
    seed: int,
    seconds: int,
    whole: dict[str, bytes],
    read: Callable[[bytes], None],
    refusal: type[Exception],
    header: int = 200,
) -> tuple[Counter, list[str]]:
    ended: Counter = Counter()
    wrong, names = [], list(whole)
    with _nothing_started() as started, warnings.catch_warnings(action="ignore"):
        for i in range(count):
            name = names[i % len(names)]
            content = mutated(whole[name], random.Random(f"{seed} {i}"), header)
            try:
                with _at_most(seconds):
                    read(content)
                ended[name, "read"] += 1
            except refusal as error:
                ended[name, "refused"] += 1
                if "\n" in str(error).strip() or not str(error).strip():
                    wrong.append(f"{name}, number {i}: not one sentence: {error}")
            except Hang:
                wrong.append(f"{name}, number {i}: still reading after {seconds} s")
            except Exception:
                wrong.append(f"{name}, number {i}: {traceback.format_exc()}")
            wrong += [f"{name}, number {i}: started {event}" for event in started]
            started.clear()
    return ended, wrong


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def hang(*_: object) -> None:
        raise Hang

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

    def hook(event: str, arguments: tuple) -> None:  # of the interpreter, for good: it is only told to rest
        if watching[0] and event.startswith(FORBIDDEN):
            started.append(f"{event} {arguments}")

    sys.addaudithook(hook)
    try:
        yield started
    finally:
        watching[0] = False


if __name__ == "__main__":
    how_many, first = (*map(int, sys.argv[1:]), *(1000, 0)[len(sys.argv) - 1 :])
    torch.set_num_threads(1)
    faults = 0
    for attempt in (try_pictures, try_checkpoints):
        outcome, bad = attempt(how_many, first)
        print(attempt.__name__, dict(sorted(outcome.items())))
        print("\n".join(bad))
        faults += len(bad)
    sys.exit(1 if faults else 0)
