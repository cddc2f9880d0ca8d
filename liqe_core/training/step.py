"""One training step: the model as a profile wants it, its losses, their gradient, the update."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from liqe_core.data.manifests import load_manifest
from liqe_core.evaluation.distributed import ALONE, Ranks
from liqe_core.losses import distortion_loss, plcc_loss, quality_loss, regression_loss, scene_loss
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.text import text_parameters, text_tower
from liqe_core.training.batches import Batch, geometry_of
from liqe_core.training.precision import Precision
from liqe_core.training.profiles import Profile


class BadBatchError(ValueError):
    """A step that was not taken, since its loss or gradient was NaN or infinite.

    Attributes:
        losses: by task, unweighted.
        reason: what was not finite, ``loss`` or ``gradient``.
        images: the images to look at: those whose own prediction or score was not finite, else all.
    """

    def __init__(self, losses: dict[str, float], reason: str, images: Sequence[str]):
        super().__init__(f"the {reason} is not finite; images: {', '.join(images)}")
        self.losses, self.reason, self.images = losses, reason, tuple(images)


def build_model(settings: Profile, device: torch.device | str = "cpu") -> LIQE:
    """The model that a profile starts from; random weights come from its seed."""
    torch.manual_seed(settings.seed)
    model = LIQE.from_clip(
        settings.model.architecture,
        settings.model.pretrained or None,
        grid=settings.grid(),
        geometry=geometry_of(settings),
        separate_heads=settings.losses.control == "separate heads",
        device=device,
    )
    heads = set(getattr(model.clip, "heads", ()))
    if settings.model.freeze == "text" or heads:
        for parameter in text_parameters(model.clip):
            parameter.requires_grad_(parameter in heads)
    if settings.model.freeze == "image":
        with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # open_clip's, of timm
            model.clip.lock_image_tower(settings.model.unlocked_groups)
    if settings.model.freeze == "all":
        model.requires_grad_(False)
    if settings.machine.gradient_checkpointing:
        model.clip.set_grad_checkpointing(True)
    if settings.machine.compile:
        model.clip.visual.compile()
        text_tower(model.clip).transformer.compile()
    return model


def build_optimizer(settings: Profile, model: LIQE) -> torch.optim.AdamW:
    """AdamW over what trains; as one kernel where torch has one, which is several times faster."""
    return torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.requires_grad]}],  # a group may be empty, a list not
        lr=settings.steps.learning_rate,
        weight_decay=settings.steps.weight_decay,
        fused=model.device.type in ("cpu", "cuda"),
    )


def learning_rate(settings: Profile, epoch: int, step: int) -> float:
    """The rate at a step, a function of where the run is and of nothing else.

    ``public``: CosineAnnealingLR(T_max=5) is stepped once an epoch, and once more where an epoch would start
    at rate 0; so position 5, 15, 25, ... of its wave is never trained at.
    """
    if settings.steps.schedule == "public":
        position = epoch + (epoch + 4) // 9
        return settings.steps.learning_rate * (1 + math.cos(math.pi * position / 5)) / 2
    done, total = epoch * settings.steps.steps + step, settings.steps.epochs * settings.steps.steps
    if done < settings.steps.warmup_steps:
        return settings.steps.learning_rate * (done + 1) / settings.steps.warmup_steps
    part = (done - settings.steps.warmup_steps) / max(1, total - settings.steps.warmup_steps)
    return settings.steps.learning_rate * (1 + math.cos(math.pi * part)) / 2


@dataclasses.dataclass
class TrainStep:
    """One step: the weighted sum of the task losses, its gradient, the update.

    Attributes:
        parallel: the model as `distributed.wrapped` gave it, where several processes train together.
        ranking, distortion: see `task_losses`.
    """

    model: LIQE
    optimizer: torch.optim.Optimizer
    precision: Precision
    ranks: Ranks = ALONE
    parallel: nn.Module | None = None
    ranking: Callable[[Tensor, Tensor, Tensor], Tensor] = quality_loss
    distortion: Callable[[Tensor, Tensor], Tensor] = distortion_loss

    def __call__(
        self, batch: Batch, weights: Mapping[str, float], learning_rate: float
    ) -> tuple[dict[str, float], float]:
        """Take the step. weights: of the tasks' losses.

        Returns:
            The losses by task, unweighted, and the norm of the gradient (infinite where float16 overflowed:
            the step was not taken, and the next scale is lower).

        Raises:
            BadBatchError: the loss or the gradient was NaN or infinite; no step was taken.
        """
        model, optimizer, precision = self.model, self.optimizer, self.precision
        optimizer.zero_grad(set_to_none=True)  # before the forward pass, whose memory they would add to
        with precision.autocast():
            part = (self.parallel or model)(batch.crops.to(model.device))
        joint = self.ranks.gather(part, len(batch.images))
        losses = task_losses(joint, batch, tuple(weights), self.ranking, self.distortion)
        loss: Tensor = sum(weights[task] * value for task, value in losses.items())  # type: ignore[assignment]

        precision.scaler.scale(loss).backward()
        precision.scaler.unscale_(optimizer)
        trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        # This waits for the device, once.
        *each_loss, total, length = torch.stack([*losses.values(), loss, norm]).tolist()
        values = dict(zip(losses, each_loss, strict=True))
        overflow = precision.scaler.is_enabled() and not math.isfinite(length)
        sound = math.isfinite(total) and (math.isfinite(length) or overflow)
        if sound:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            precision.scaler.step(optimizer)
            precision.round_weights()
        precision.scaler.update()
        if not sound:
            reason = "gradient" if math.isfinite(total) else "loss"
            raise BadBatchError(values, reason, _suspects(joint, batch))
        return values, length


def ranking_of(settings: Profile) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The quality loss that a profile asks for, of predictions, scores and datasets (see `losses`)."""
    if settings.losses.quality_loss == "squared error":
        scores = {name: load_manifest(name).score for name in settings.data.batch_sizes}
        if unscored := [name for name, score in scores.items() if score is None]:
            raise ValueError(
                f"quality_loss: no scores in {', '.join(unscored)}; leave out, or take 'fidelity'"
            )
        ends = torch.tensor([(score.low, score.high) for score in scores.values() if score])
        return partial(regression_loss, ends=ends)
    losses = settings.losses
    pairs = partial(quality_loss, spread=losses.spread, pair_mean=losses.pair_mean, ties=losses.ties)
    if not losses.plcc_weight:
        return pairs
    return lambda *labelled: pairs(*labelled) + losses.plcc_weight * plcc_loss(*labelled)


def distortion_loss_of(settings: Profile) -> Callable[[Tensor, Tensor], Tensor]:
    """The distortion loss that a profile asks for, of probabilities and labels (see `LossSettings`)."""
    public = settings.losses.distortion_loss == "public" and "scene" not in settings.grid().axes
    return scene_loss if public else distortion_loss


def task_losses(
    joint: Tensor,
    batch: Batch,
    axes: Sequence[str],
    ranking: Callable[[Tensor, Tensor, Tensor], Tensor] = quality_loss,
    distortion: Callable[[Tensor, Tensor], Tensor] = distortion_loss,
) -> dict[str, Tensor]:
    """The loss of each task whose axis the grid has, from the (B, Q, S, D) joint probability.

    Args:
        ranking: see `ranking_of`; by default the public code's. distortion: see `distortion_loss_of`.
    """
    device = joint.device
    losses = {"quality": ranking(expected_quality(joint), batch.mos.to(device), batch.dataset.to(device))}
    if "scene" in axes:
        losses["scene"] = scene_loss(marginal(joint, "scene"), batch.scene.to(device))
    if "distortion" in axes:
        losses["distortion"] = distortion(marginal(joint, "distortion"), batch.distortion.to(device))
    return losses


def _suspects(joint: Tensor, batch: Batch) -> list[str]:
    """The images whose own prediction or score is not finite; all of them where none is."""
    wrong = ~joint.flatten(1).isfinite().all(dim=1).cpu() | batch.mos.isinf().cpu()  # NaN: no score
    return [name for name, bad in zip(batch.images, wrong, strict=True) if bad] or list(batch.images)
