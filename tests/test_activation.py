"""The lean QuickGELU is QuickGELU."""

import open_clip
import torch
from open_clip.transformer import QuickGELU

from liqe_core.activation import LeanQuickGELU, use_lean_activations


def test_values_and_gradients_are_quickgelus():
    x = torch.linspace(-40, 40, 4001, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4001, dtype=torch.float64)
    results = []
    for module in (QuickGELU(), LeanQuickGELU()):
        y = module(x)
        (gradient,) = torch.autograd.grad(y @ weight, x)
        results.append((y.detach(), gradient))
    for plain, lean in zip(*results, strict=True):
        torch.testing.assert_close(lean, plain, atol=1e-13, rtol=1e-12)
    small = torch.randn(7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LeanQuickGELU(), small)


def test_it_keeps_its_input_alone_for_the_way_back():
    kept = []
    x = torch.randn(10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        LeanQuickGELU()(x)
    assert kept == [10]


def test_it_takes_the_place_of_quickgelu_and_of_nothing_else():
    model = open_clip.CLIP(
        16,
        {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 2},
        {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1},
        quick_gelu=True,
    )
    keys, images = list(model.state_dict()), torch.randn(2, 3, 16, 16)
    before = model.encode_image(images)
    use_lean_activations(model)
    lean = [module for module in model.modules() if isinstance(module, LeanQuickGELU)]
    assert len(lean) == 3 and not any(type(m) is QuickGELU for m in model.modules())
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(model.encode_image(images), before)
