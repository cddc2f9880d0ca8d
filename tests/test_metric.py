"""LIQE on tensors: the scores of the same pixels from a file, with a gradient, and refusals."""

import contextlib
import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch
from support.models import of_twelve_prompts

from liqe_core import LIQE, LIQEMetric
from liqe_core.commands.main import main
from liqe_core.crops import CropGeometry, scoring_crops, tensor_crops
from liqe_core.files import CHECKOUT
from liqe_core.images import ImageError
from liqe_core.metric import export
from liqe_core.prediction import expected_quality
from liqe_core.scoring import evaluating

small_liqe = pytest.fixture(of_twelve_prompts)


@pytest.fixture
def metric(small_liqe):
    return LIQEMetric(small_liqe.requires_grad_(False))


def as_tensor(*images):
    """(N, 3, H, W) float32 in [0, 1], as torchvision's ToTensor makes them."""
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) / 255 for p in images])


def test_equal_to_the_same_pixels_from_a_file(metric, image, tmp_path):
    images = [image.resize((300, 140)), image.resize((300, 140)).rotate(180)]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    expected = metric.model.score(sorted(tmp_path.iterdir())).quality
    quality = metric(as_tensor(*images))
    assert quality.shape == (2,) and quality.dtype == torch.float32
    torch.testing.assert_close(quality, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(metric(as_tensor(*images).double()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size, enlarge_to", [((1100, 800), 0), ((64, 48), 56)])
def test_resized_images_are_within_one_level_of_pillow(image, size, enlarge_to):
    """Pillow rounds twice, to half a level each time; the rest is the same."""
    image, geometry = image.resize(size), CropGeometry(window=32, enlarge_to=enlarge_to)
    ours = 255 * tensor_crops(as_tensor(image), geometry)[0]
    pillow = scoring_crops(image, geometry)
    assert ours.shape == pillow.shape
    assert 0.01 < (ours - pillow).abs().max() <= 1.01


@pytest.mark.parametrize("resize_to", [768, 40])
def test_the_gradient_is_that_of_finite_differences(image, resize_to):
    torch.manual_seed(1)
    geometry = CropGeometry(window=32, resize_to=resize_to)
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, geometry=geometry).requires_grad_(False)
    metric, images = LIQEMetric(model), 0.2 + 0.6 * as_tensor(image.resize((70, 50)))
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(metric(images).sum(), images)
    assert gradient.shape == images.shape and gradient.isfinite().all()
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(images.shape, generator=generator)
    patch = torch.zeros_like(random)
    patch[..., 8:24, 8:24] = 1  # within one window, but not all of them
    for direction in (gradient, random * gradient.abs(), gradient.sign() * patch):
        direction = direction / direction.abs().max()
        expected = float((gradient * direction).sum())
        step = 0.002
        with torch.no_grad():
            up, down = metric(images + step * direction), metric(images - step * direction)
        assert float((up - down) / (2 * step)) == pytest.approx(expected, rel=0.01), "float32, so no closer"
        assert abs(expected) > 1e-4


def test_weights_that_it_reads_are_frozen_and_a_model_is_left_as_it_is(small_liqe, tmp_path):
    small_liqe.save(tmp_path / "m.safetensors")
    assert not any(p.requires_grad for p in LIQEMetric(tmp_path / "m.safetensors").parameters())
    small_liqe.train()
    before = [(p.requires_grad, p.shape) for p in small_liqe.parameters()]
    metric = LIQEMetric(small_liqe)
    metric(torch.rand(1, 3, 40, 40))
    assert [(p.requires_grad, p.shape) for p in small_liqe.parameters()] == before
    with evaluating(small_liqe), contextlib.ExitStack() as another_thread:
        another_thread.enter_context(evaluating(small_liqe))
        another_thread.close()
        assert not any(module.training for module in small_liqe.modules()), "one of two still computes"
    assert all(module.training for module in small_liqe.modules())


def test_invalid_shapes_and_dtypes_are_named(metric):
    with pytest.raises(TypeError, match="ndarray"):
        metric(np.zeros((1, 3, 40, 40), np.float32))
    for shape in ((1, 3, 40, 0), (3, 40, 40), (1, 40, 40, 3), (0, 3, 40, 40)):
        with pytest.raises(TypeError, match=re.escape(str(shape))):
            metric(torch.zeros(shape))
    with pytest.raises(TypeError, match="uint8"):
        metric(torch.zeros(1, 3, 40, 40, dtype=torch.uint8))
    with pytest.raises(ImageError, match="40 x 20"):
        metric(torch.zeros(2, 3, 20, 40))
    for half in (metric.half, metric.double):
        with pytest.raises(TypeError, match=r"float\(\)"):
            half()(torch.rand(1, 3, 40, 40))


def test_the_interfaces_of_pyiqa_and_torchmetrics(metric):
    assert metric.lower_better is False and metric.higher_is_better and metric.is_differentiable
    assert metric.score_range == (1.0, 3.0), "three words of quality"
    metric(torch.rand(1, 3, 40, 40))
    with pytest.warns(UserWarning, match="update"):
        assert metric.compute().isnan()
    batches = [torch.rand(n, 3, 40, 40) for n in (3, 1)]
    for batch in batches:
        metric.update(batch)
    expected = torch.cat([metric(batch) for batch in batches]).mean()
    assert float(metric.compute()) == pytest.approx(float(expected), abs=1e-6)
    metric.reset()
    metric.update(batches[1])
    assert float(metric.compute()) == pytest.approx(float(metric(batches[1])), abs=1e-6)


@pytest.mark.parametrize("value", [1.001, -0.5, torch.nan])
def test_values_out_of_range_are_rejected_by_image_name(metric, value):
    images = torch.full((3, 3, 40, 40), 0.5)
    images[1, 2, 3, 4] = value
    with pytest.raises(ImageError, match=rf"image 1 .*{value}"):
        metric(images)
    assert metric(torch.full((1, 3, 40, 40), 1.000001)).isfinite(), "an error of rounding"


def test_precision(small_liqe):
    images = torch.rand(2, 3, 40, 40)
    metric = LIQEMetric(small_liqe, precision="bfloat16")
    quality = metric(images)
    expected = small_liqe.score(images, precision="bfloat16").quality
    torch.testing.assert_close(quality.detach(), expected, atol=1e-5, rtol=0)
    assert quality.dtype == torch.float32
    assert (quality - LIQEMetric(small_liqe)(images)).abs().max() > 1e-6
    expected = LIQEMetric(small_liqe)(images)
    with torch.autocast("cpu", torch.bfloat16):
        for quality in (LIQEMetric(small_liqe)(images), small_liqe.score(images).quality):
            torch.testing.assert_close(quality, expected, atol=1e-5, rtol=0, msg="a caller's own precision")
    with pytest.raises(ValueError, match="precision"):
        LIQEMetric(small_liqe, precision="half")


def test_an_efficientnet_refuses_half_precision():
    torch.manual_seed(1)
    model = LIQE.from_clip("LIQE-tiny", pretrained=None)
    with pytest.raises(ValueError, match=r"bfloat16 .*float32"):
        LIQEMetric(model, precision="bfloat16")
    with pytest.raises(ValueError, match=r"bfloat16 .*float32"):
        model.score(torch.rand(1, 3, 288, 288), precision="bfloat16")


@pytest.mark.parametrize("how", ["trace", "export"])
def test_it_is_traced_and_exported_for_images_of_one_size(metric, how):
    images, others = torch.rand(2, 2, 3, 40, 60)
    make = {"trace": torch.jit.trace, "export": lambda m, x: torch.export.export(m, x).module()}[how]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own tracing
        programs = [make(metric, (images,))]
        expected = metric(others)  # with embeddings that no tracing has left behind
        programs.append(make(metric, (images,)))
    for program in programs:
        torch.testing.assert_close(program(others), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("suffix, overview", [(".onnx", False), (".pt2", True)])
def test_an_exported_file_gives_the_models_answers(tmp_path, suffix, overview):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = of_twelve_prompts(), tmp_path / f"model{suffix}"
    model.geometry = dataclasses.replace(model.geometry, overview=overview)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "m.safetensors")
        assert main(["export", str(path), "--checkpoint", str(tmp_path / "m.safetensors")]) == 0
    for count, windows in [(1, 2), (3, 5), (2, 15)]:
        crops = torch.randint(256, (count, windows, 3, 32, 32), dtype=torch.uint8)
        if suffix == ".onnx":
            answers = onnxruntime.InferenceSession(path).run(None, {"crops": crops.numpy()})
        else:
            answers = torch.export.load(path).module()(crops)
        with torch.no_grad():
            joint = model(crops)
        for answer, expected in zip(answers, (joint, expected_quality(joint)), strict=True):
            torch.testing.assert_close(torch.as_tensor(answer), expected, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"model\.pb: .*\.onnx"):
        export(model, tmp_path / "model.pb")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(metric):
    images = torch.rand(2, 3, 60, 50)
    expected = metric(images)
    metric.to("cuda")
    for device in ("cpu", "cuda"):
        leaf = images.to(device).requires_grad_()
        quality = metric(leaf)
        quality.sum().backward()
        assert quality.device.type == "cuda" and leaf.grad.device == leaf.device
        torch.testing.assert_close(quality.cpu(), expected, atol=1e-3, rtol=0)


def test_the_example_of_the_documentation_runs(small_liqe, monkeypatch, capsys):
    """With a small model in place of the authors' weights."""
    text = (CHECKOUT / "docs" / "metric.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "LIQEMetric" in code]
    monkeypatch.setattr(LIQE, "from_checkpoint", lambda *_, **__: small_liqe)
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: rand(*shape[:2], 40, 40, **options))
    names: dict = {}
    exec(example, names)
    assert names["quality"].shape == (4,) and names["images"].grad.abs().sum() > 0
    assert "tensor(" in capsys.readouterr().out and names["metric"]._count == 0
