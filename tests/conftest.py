"""What the tests share: small random models, and real images that come with installed packages."""

import math
import signal

import numpy as np
import pytest
import torch
from PIL import Image

#: Test files that take a minute and more: two processes are done sooner when none of them comes last.
LONG = ["notebooks", "rehearsal", "site", "sweep", "score", "loop", "side_by_side", "distributed"]


def pytest_collection_modifyitems(items):
    """Run long files first (needs ``--no-loadscope-reorder``; pytest-xdist puts large files first)."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors on two threads are slower, much slower where the machine has other work too."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002, for libraries that draw from the global generator


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """A real photograph, (427, 640, 3) uint8, that comes with scikit-learn."""
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image("china.jpg"))


@pytest.fixture
def small_liqe():
    """A LIQE of a few hundred thousand random weights that takes 32x32 crops."""
    from liqe_core import LIQE

    torch.manual_seed(1)
    return LIQE.from_clip("LIQE-smoke", pretrained=None)


@pytest.fixture
def openai_small() -> dict:
    """A small model in the layout of OpenAI's weights, whose sizes can be read off its shapes."""
    return {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 32, "layers": 2},
        "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 2},
    }


@pytest.fixture
def openai_state(openai_small) -> dict[str, torch.Tensor]:
    """Random weights under the names of OpenAI's models, as in the public LIQE file."""
    from liqe_core import towers

    torch.manual_seed(2)
    state = towers.build(openai_small).state_dict()
    state["logit_scale"].fill_(math.log(100))
    return state


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """The small dataset of most training tests, with 12 training images; tests must not change it."""
    from support.training import small_set

    return small_set(tmp_path_factory.mktemp("mini"))


@pytest.fixture
def image(photograph) -> Image.Image:
    """The same photograph as a Pillow image of 640 x 427."""
    return Image.fromarray(photograph)


@pytest.fixture
def interruptible():
    """As in a terminal and in a cell of a notebook; pytest's processes may ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
