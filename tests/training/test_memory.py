"""What training does about memory changes no number, and does what it says about memory."""

import platform
import subprocess
import sys
from collections import OrderedDict

import open_clip
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from liqe_core.training import memory
from liqe_core.training.memory import LeanMLP, allocation, use_lean_mlps

WIDTH = 16


def _model(quick_gelu: bool = True) -> nn.Module:
    torch.manual_seed(3)
    return open_clip.CLIP(
        16,
        {"image_size": 16, "patch_size": 8, "width": WIDTH, "head_width": 8, "layers": 2},
        {"context_length": 8, "vocab_size": 20, "width": WIDTH, "heads": 2, "layers": 1},
        quick_gelu=quick_gelu,
    )


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_values_and_gradients_are_the_plain_nets_bit_for_bit(quick_gelu):
    images, results = torch.randn(2, 3, 16, 16), []
    for lean in (False, True):
        model = _model(quick_gelu)
        if lean:
            use_lean_mlps(model)
        y = model.encode_image(images)
        y.square().sum().backward()
        results.append((y.detach(), {n: p.grad for n, p in model.visual.named_parameters()}))
    (plain, plain_gradients), (lean, lean_gradients) = results
    assert torch.equal(plain, lean)
    assert plain_gradients.keys() == lean_gradients.keys()
    assert all(torch.equal(g, lean_gradients[n]) for n, g in plain_gradients.items())


def test_it_takes_the_place_of_every_blocks_net_and_of_nothing_else():
    model = _model()
    keys, other = list(model.state_dict()), [type(m) for m in model.modules() if type(m) is not nn.Sequential]
    use_lean_mlps(model)
    assert sum(isinstance(m, LeanMLP) for m in model.modules()) == 3
    assert list(model.state_dict()) == keys
    kept = [type(m) for m in model.modules() if not isinstance(m, (nn.Sequential, LeanMLP))]
    assert kept == other


def _nets(rows: int = 10):
    """The same net plain and lean, and an input that wants a gradient."""
    plain = _model().visual.transformer.resblocks[0].mlp
    lean = LeanMLP(OrderedDict(plain.named_children()))
    return plain, lean, torch.randn(rows, WIDTH, requires_grad=True)


def test_what_comes_out_of_the_activation_is_not_kept():
    """Held for the backward pass, in values a row: the input, and what goes into the activation."""
    plain, lean, x = _nets(rows=10)

    def held(net: nn.Module) -> int:
        kept = {}

        def pack(tensor):
            if tensor.shape[:1] == (10,):
                kept[tensor.data_ptr()] = tensor  # kept alive, so no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            net(x)
        return sum(t.numel() for t in kept.values()) // 10

    inside = 4 * WIDTH
    assert held(lean) == WIDTH + inside
    assert held(plain) >= WIDTH + 3 * inside


def test_no_product_is_computed_twice():
    plain, lean, x = _nets()
    operations = []
    for net in (plain, lean):
        with FlopCounterMode(display=False) as counter:
            net(x).sum().backward()
        operations.append(counter.get_total_flops())
    assert operations[0] == operations[1] == 3 * 2 * (2 * 10 * WIDTH * 4 * WIDTH)


MEASURE = """
import resource, sys, torch
from liqe_core.training.memory import allocation

net = torch.nn.Sequential(torch.nn.Linear(8, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 8))
x = torch.randn(8192, 8)  # 64 MB in the middle

def faults():
    counts = []
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        net(x).sum().backward()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

with allocation(sys.argv[1]):
    within = faults()
    held = [torch.ones(3, 2**18) for _ in range(30)]  # 3 MB each, of which every second one goes
    full = resident()
    del held[::2]
    given_back = full - resident()
print(within, given_back)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set")
def test_freed_memory_is_kept_or_given_back():
    """In processes of their own: pages that have to be asked for in a step, bytes that go back at once."""
    found = {}
    for way in ("keep", "frugal"):
        command = [sys.executable, "-c", MEASURE, way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[way] = [int(word) for word in done.stdout.split()]
    (keep, kept_hole), (frugal, hole) = found["keep"], found["frugal"]
    assert keep < 10 < 1000 < frugal
    assert kept_hole < 2**20 < 40 * 2**20 < hole


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    with allocation("keep"):
        pass
