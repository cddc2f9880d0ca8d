"""The step against a plain restatement of the public loop, and its variants against itself."""

import itertools
import math
from functools import partialmethod

import pytest
import torch
from open_clip.model import convert_weights_to_lp
from support.training import EQUAL, settings, small_set

from liqe_core.crops import CropGeometry, normalize
from liqe_core.data.labelled import LabelledImages
from liqe_core.losses import distortion_loss, plcc_loss, quality_loss, regression_loss
from liqe_core.prediction import marginal
from liqe_core.text import text_parameters
from liqe_core.training.batches import geometry_of
from liqe_core.training.loop import Run
from liqe_core.training.step import build_model, distortion_loss_of, learning_rate, ranking_of


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini")
    return [small_set(root, "one"), small_set(root, "other")]


def a_run(sets, folder, **overrides) -> Run:
    return Run(settings(**{"batch_sizes": {"one": 3, "other": 2}} | overrides), sets, folder)


def gradients(run: Run, weights=EQUAL) -> dict[str, torch.Tensor]:
    run.take_step(run.batches.batch(0, 0), weights, 0.0)
    return {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}


def close(expected: dict, found: dict, bound: float) -> None:
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert (value - found[name]).norm() <= bound * value.norm() + 1e-7, name


# --- the computation of the public loop, step by step, with open_clip's towers -----------------------------


def public_fidelity(p: float, g: float):
    return 1 - (p * g + 1e-8) ** 0.5 - ((1 - p) * (1 - g) + 1e-8) ** 0.5


def public_losses(joint, batch):
    """Compute the losses with loops over pairs, datasets, scenes and images.

    A dataset with one image gives NaN: its mean over no pairs is 0 / 0.
    """
    quality = sum((c + 1) * joint[:, c].sum(dim=(1, 2)) for c in range(5))
    pairs_of_sets = []
    for number in batch.dataset.unique().tolist():
        rows = (batch.dataset == number).nonzero()[:, 0].tolist()
        pairs = []
        for i, j in itertools.combinations(rows, 2):
            difference = (batch.mos[i] - batch.mos[j]).item()
            g = 0.5 if difference == 0 else float(difference > 0)
            pairs.append(public_fidelity(0.5 * (1 + torch.erf((quality[i] - quality[j]) / math.sqrt(2))), g))
        pairs_of_sets.append(pairs)
    images, scenes = batch.scene.shape
    p_scene, p_distortion = joint.sum(dim=(1, 3)), joint.sum(dim=(1, 2))
    scene = sum(
        public_fidelity(p_scene[n, s], batch.scene[n, s]) for n in range(images) for s in range(scenes)
    )
    distortion = sum(
        1 - sum((p_distortion[n, d] * batch.distortion[n, d] + 1e-8) ** 0.5 for d in range(11))
        for n in range(images)
    )
    means = [sum(pairs) / len(pairs) if pairs else math.nan for pairs in pairs_of_sets]
    return [sum(means) / len(means), scene / images / scenes, distortion / images]


def to_half_and_back(clip) -> None:
    """What the public script does to the weights on CUDA after a step, by open_clip's copy of openai's
    function; then float32 storage again, since a CPU computes no products in half precision here."""
    convert_weights_to_lp(clip, torch.float16)
    for parameter in clip.parameters():
        parameter.data = parameter.data.float()


def public_run(start: Run, epochs: int, steps: int, padded: bool = True) -> list[list[float]]:
    """Padded prompts through `encode_text` (or the tree of prefixes), its losses, its weighting, torch's own
    scheduler.

    With a loss that is NaN no step is taken, nothing is added to the epoch's means, which are over all steps
    all the same, and the losses here are NaN.
    """
    model = build_model(start.settings)
    clip, tokens = model.clip, model.text.tokens
    half = start.settings.machine.precision == "public"
    if half:
        to_half_and_back(clip)  # clip.load on CUDA gives weights in half precision
    trained = [p for p in clip.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=start.settings.steps.learning_rate, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    means, seen = [], []
    for epoch in range(epochs):
        if optimizer.param_groups[0]["lr"] == 0:
            scheduler.step()
        weights = [1.0] * 3
        if epoch >= 2:
            pace = [math.exp(a / b / 2) for a, b in zip(means[-1], means[-2], strict=True)]
            weights = [3 * p / sum(pace) for p in pace]
        totals = [0.0] * 3
        for step in range(steps):
            batch = start.batches.batch(epoch, step)
            images, crops = batch.crops.shape[:2]
            image = clip.encode_image(normalize(batch.crops.flatten(0, 1)))
            text = clip.encode_text(tokens) if padded else model.text()  # the same, and quicker
            image = image / image.norm(dim=1, keepdim=True)
            text = text / text.norm(dim=1, keepdim=True)
            logits = (clip.logit_scale.exp() * image @ text.t()).view(images, crops, -1).mean(1)
            losses = public_losses(logits.softmax(dim=1).view(images, 5, 9, 11), batch)
            if any(loss != loss for loss in losses):
                seen.append([math.nan] * 3)
                continue
            optimizer.zero_grad()
            sum(w * loss for w, loss in zip(weights, losses, strict=True)).backward()
            optimizer.step()
            if half:
                to_half_and_back(clip)
            values = [loss.item() for loss in losses]
            seen.append(values)
            totals = [total + value / steps for total, value in zip(totals, values, strict=True)]
        means.append(totals)
        scheduler.step()
    return seen


@pytest.fixture(scope="module")
def uneven(sets):
    """Limit one dataset to seven training images, and all scores to three levels, so that there are ties.

    An epoch over the seven images has batches of two, three and a single image.
    """

    def changed(dataset: LabelledImages, count: int) -> LabelledImages:
        table = dataset.table.assign(mos=dataset.table["mos"].rank(pct=True).mul(3).round())
        table.loc[dataset.part(1, "train")[count:], "session_1"] = "val"
        return LabelledImages(dataset.name, table, dataset.images)

    return [changed(sets[0], 12), changed(sets[1], 7)]


@pytest.mark.parametrize(
    "overrides",
    [
        {"lone_images": "drop step", "precision": "public"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"precision": "public"}, marks=pytest.mark.slow),
    ],
    ids=lambda overrides: " ".join(overrides.values()) or "default",
)
def test_fifty_steps_have_the_losses_of_the_public_loop(sets, uneven, tmp_path, overrides):
    """Ten epochs of five steps: two restarts of the schedule, eight epochs of averaged weights. Scheduled
    drops: the last batch of each lap of four over seven images, once an epoch."""
    plain = set(overrides) <= {"precision"}
    more = dict(epochs=10, steps=5, schedule="public", learning_rate=2e-4, crops=2, validate_every=10)
    start = a_run(sets if plain else uneven, tmp_path, max_skipped=0, **more, **overrides)
    public = public_run(start, 10, 5, padded=plain)
    start.train()
    ours = [[row[f"{task}_loss"] for task in ("quality", "scene", "distortion")] for row in start.steps]
    assert len(ours) == len(public) == 50
    ours, public = torch.tensor(ours), torch.tensor(public)
    dropped = ours.isnan().any(dim=1)
    assert torch.equal(dropped, public.isnan().any(dim=1))
    assert dropped.sum() == (10 if "lone_images" in overrides else 0)
    if dropped.any():
        assert [row["dropped"] for row in start.steps] == dropped.int().tolist()
        assert not start.watch.skipped and all(row["skipped"] == 0 for row in start.steps)
        assert all(math.isfinite(row["scene_loss"]) for row in start.epochs)
    assert (ours - public)[~dropped].abs().max() <= 1e-4
    # and there was something to compare: the losses moved by far more than that
    kept = ours[~dropped].sum(dim=1)
    assert abs(kept[-1] - kept[0]) > 0.02
    weights = [[row[f"{task}_weight"] for task in EQUAL] for row in start.epochs]
    assert max(abs(w - 1) for w in weights[-1]) > 1e-3


def test_the_quality_loss_is_the_public_codes_unless_a_profile_asks_for_another():
    batch = torch.rand(7), torch.rand(7), torch.tensor([0, 0, 0, 0, 1, 1, 1])
    assert ranking_of(settings())(*batch) == quality_loss(*batch)
    asked = settings(plcc_weight=0.5, pair_mean="pairs")
    assert ranking_of(asked)(*batch) == quality_loss(*batch, pair_mean="pairs") + 0.5 * plcc_loss(*batch)
    assert ranking_of(settings(spread=2**0.5))(*batch) == quality_loss(*batch, spread=2**0.5)
    asked = settings(quality_loss="squared error", batch_sizes={"biq2021": 4, "hevc": 3})
    assert ranking_of(asked)(*batch) == regression_loss(*batch, ends=torch.tensor([[0.0, 1.0], [1.0, 5.0]]))
    with pytest.raises(ValueError, match="scenes"):
        ranking_of(settings(quality_loss="squared error", batch_sizes={"scenes": 4}))


def test_quality_and_distortion_can_train_the_scene_loss_on_distortions_as_the_public_script(sets, tmp_path):
    run = a_run(sets, tmp_path, variant="quality+distortion", distortion_loss="public")
    batch = run.batches.batch(0, 0)
    with torch.no_grad():
        p = marginal(run.model(batch.crops), "distortion")
    pairs = zip(p.flatten(), batch.distortion.flatten(), strict=True)
    public = sum(public_fidelity(*pair) for pair in pairs) / p.numel()
    losses, _ = run.take_step(batch, {"quality": 1.0, "distortion": 1.0}, 0.0)
    assert losses["distortion"] == pytest.approx(public.item(), abs=1e-6)
    assert abs(losses["distortion"] - distortion_loss(p, batch.distortion).item()) > 0.1
    assert distortion_loss_of(settings(distortion_loss="public")) is distortion_loss, "in the other variants"


@pytest.mark.parametrize("epochs", [1, 23])
def test_the_public_schedule_is_torchs_with_its_extra_step(epochs):
    chosen = settings(schedule="public", learning_rate=5e-6, epochs=epochs)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-6)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    for epoch in range(epochs):
        if optimizer.param_groups[0]["lr"] == 0:
            scheduler.step()
        rate = optimizer.param_groups[0]["lr"]
        assert rate > 0
        assert learning_rate(chosen, epoch, 0) == pytest.approx(rate, rel=1e-9)
        assert learning_rate(chosen, epoch, 2) == learning_rate(chosen, epoch, 0)
        optimizer.step()
        scheduler.step()


def test_the_cosine_schedule_warms_up_and_decays_to_zero():
    chosen = settings(schedule="cosine", learning_rate=1.0, epochs=2, steps=6, warmup_steps=4)
    rates = [learning_rate(chosen, epoch, step) for epoch in range(2) for step in range(6)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[8] == pytest.approx(0.5)  # halfway through the rest of 12
    assert rates[11] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)


# --- variants of the step ----------------------------------------------------------------------------------


def test_gradient_checkpointing_changes_nothing_but_memory(sets, tmp_path):
    plain, checkpointed = a_run(sets, tmp_path), a_run(sets, tmp_path, gradient_checkpointing=True)
    assert checkpointed.model.clip.visual.transformer.grad_checkpointing
    assert checkpointed.model.clip.transformer.grad_checkpointing
    expected, found = gradients(plain), gradients(checkpointed)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_keeps_float32_weights_and_the_gradient(sets, tmp_path, precision):
    exact, mixed = gradients(a_run(sets, tmp_path)), a_run(sets, tmp_path, precision=precision)
    rough = gradients(mixed)
    assert all(value.dtype == torch.float32 for value in rough.values())
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())
    flat, rounded = (torch.cat([g.flatten() for g in found.values()]) for found in (exact, rough))
    assert torch.nn.functional.cosine_similarity(flat, rounded, dim=0) > 0.97
    assert not torch.equal(flat, rounded)  # it did compute in half precision


def test_in_mixed_precision_the_text_tower_adds_up_in_float32(sets, tmp_path):
    """On CUDA the public script adds up in half precision in both towers, since its weights are in it."""
    run, types = a_run(sets, tmp_path, precision="bfloat16"), {}
    for name, tower in (("image", run.model.clip.visual), ("text", run.model.clip)):
        tower.transformer.resblocks[0].register_forward_hook(
            lambda _, __, out, name=name: types.update({name: out.dtype})
        )
    gradients(run)
    assert types == {"image": torch.bfloat16, "text": torch.float32}


def test_a_float16_step_whose_gradient_overflows_is_left_out_and_the_scale_halved(sets, tmp_path):
    run = a_run(sets, tmp_path, precision="float16")
    run.take_step(run.batches.batch(0, 0), EQUAL, 1e-3)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.precision.scaler.load_state_dict(run.precision.scaler.state_dict() | {"scale": 2.0**60})
    _, norm = run.take_step(run.batches.batch(0, 1), EQUAL, 1e-3)
    assert not math.isfinite(norm)
    assert run.precision.scaler.get_scale() == 2.0**59
    assert all(torch.equal(before[k], v) for k, v in run.model.state_dict().items())
    run.save()
    resumed = a_run(sets, tmp_path, precision="float16")
    resumed.restore()
    assert resumed.precision.scaler.get_scale() == 2.0**59


def test_a_channels_last_tower_resumes_with_moments_in_the_same_layout(sets, tmp_path):
    """Its weights lie channels last in memory, which fused AdamW walks."""
    run, resumed = (a_run(sets, tmp_path, architecture="LIQE-mini") for _ in range(2))
    run.take_step(run.batches.batch(0, 0), EQUAL, 1e-3)
    run.save()
    resumed.restore()
    for each_run in (run, resumed):
        each_run.take_step(run.batches.batch(0, 1), EQUAL, 1e-3)
    assert any(p.ndim == 4 and not p.is_contiguous() for p in run.model.parameters()), "as this test assumes"
    weights = resumed.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize("freeze", ["text", "image"])
def test_a_frozen_tower_stays_and_the_other_gets_the_same_gradient(sets, tmp_path, freeze):
    full_gradients, frozen = gradients(a_run(sets, tmp_path)), a_run(sets, tmp_path, freeze=freeze)
    found = gradients(frozen)
    of_image = {name for name in full_gradients if name.startswith("clip.visual.")}
    assert set(found) == (of_image if freeze == "text" else set(full_gradients) - of_image)
    close({name: full_gradients[name] for name in found}, found, 1e-4)
    before = {k: v.clone() for k, v in frozen.model.named_parameters() if k not in found}
    frozen.take_step(frozen.batches.batch(0, 1), EQUAL, 1e-2)
    assert all(torch.equal(before[k], v) for k, v in frozen.model.named_parameters() if k in before)


def trained(run: Run) -> set[str]:
    """What the optimiser moves, by name below the model's CLIP."""
    moved = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    return {name for name, p in run.model.clip.named_parameters() if id(p) in moved}


@pytest.mark.parametrize(
    "architecture, groups, unlocked, locked",
    [
        ("LIQE-smoke", 1, {"proj"}, {"ln_post.weight", "conv1.weight"}),
        ("LIQE-smoke", 2, {"proj", "ln_post.weight", "transformer.resblocks.1.mlp.c_fc.weight"},
         {"transformer.resblocks.0.mlp.c_fc.weight", "conv1.weight"}),
        ("LIQE-mini", 1, {"head.proj.weight", "trunk.layer4.0.conv1.weight"},
         {"trunk.layer1.0.conv1.weight", "trunk.conv1.0.weight"}),
    ],
)  # fmt: skip
def test_the_last_groups_of_a_frozen_tower_train(sets, tmp_path, architecture, groups, unlocked, locked):
    """The names say which groups; everything of a group trains, and the text as ever."""
    chosen = dict(architecture=architecture, batch_norm="frozen", freeze="image")
    frozen = a_run(sets, tmp_path, **chosen)
    run = a_run(sets, tmp_path, **chosen, unlocked_groups=groups)
    of_image = {name.removeprefix("visual.") for name in trained(run) if name.startswith("visual.")}
    assert unlocked <= of_image and not locked & of_image
    before = {name: p.clone() for name, p in run.model.clip.named_parameters()}
    run.take_step(run.batches.batch(0, 0), EQUAL, 1e-2)
    moved = {name for name, p in run.model.clip.named_parameters() if not torch.equal(p, before[name])}
    assert {f"visual.{name}" for name in unlocked} <= moved <= trained(run) and trained(frozen) < trained(run)
    assert {"text_projection", "token_embedding.weight"} <= trained(frozen)


def test_a_step_with_quality_alone_has_all_prompts_and_one_loss(sets, tmp_path):
    plain, alone = a_run(sets, tmp_path), a_run(sets, tmp_path, control="quality alone")
    assert alone.model.grid == plain.model.grid and len(alone.model.grid.prompts) == 495
    weights = alone.weighting.weights()
    assert weights == {"quality": 1.0}
    losses, _ = alone.take_step(alone.batches.batch(0, 0), weights, 0.0)
    expected = gradients(plain, {"quality": 1.0, "scene": 0.0, "distortion": 0.0})
    of_plain, _ = plain.take_step(plain.batches.batch(0, 0), EQUAL, 0.0)
    assert losses == {"quality": pytest.approx(of_plain["quality"], abs=1e-6)}
    close(expected, gradients(alone, weights), 1e-4)


def test_a_run_with_quality_alone_has_all_measures(sets, tmp_path):
    run = a_run(sets, tmp_path, control="quality alone", epochs=3, steps=1)
    run.train()
    assert {"quality_loss", "quality_weight", "srcc", "scene_accuracy"} <= set(run.epochs[-1])
    assert not {"scene_loss", "distortion_loss", "scene_weight"} & {*run.epochs[-1], *run.steps[-1]}


@pytest.mark.parametrize("freeze", ["", "text", "image"])
def test_separate_heads_train_and_the_text_tower_has_no_part(sets, tmp_path, freeze):
    run = a_run(sets, tmp_path, control="separate heads", freeze=freeze)
    assert [tuple(head.shape) for head in run.model.clip.heads] == [(5, 32), (9, 32), (11, 32)]
    heads = set(run.model.clip.heads)
    assert all(name.startswith(("visual.", "heads.")) for name in trained(run))
    before = {p: p.clone() for p in text_parameters(run.model.clip)}
    found = gradients(run)
    assert {"clip.heads.0", "clip.heads.1", "clip.heads.2"} <= set(found)
    of_tower = {name for name in found if not name.startswith("clip.heads.")}
    assert all(name.startswith("clip.visual.") for name in of_tower) and bool(of_tower) == (freeze != "image")
    run.take_step(run.batches.batch(0, 1), EQUAL, 1e-2)
    assert all(torch.equal(p, was) != (p in heads) for p, was in before.items())


def test_a_profile_sets_the_positions_of_crops():
    assert geometry_of(settings()) == CropGeometry(window=32)
    chosen = settings(architecture="LIQE-mini", windows=4, enlarge=True)
    assert geometry_of(chosen) == CropGeometry(window=64, count=4, enlarge_to=64)
    assert geometry_of(settings(resize_to=96)) == CropGeometry(window=32, resize_to=96)
    assert geometry_of(settings(resize_to=0)) == CropGeometry(window=32, resize_to=None)
    with pytest.raises(ValueError, match="resize_to is 31"):
        geometry_of(settings(resize_to=31))
    assert build_model(chosen).geometry == geometry_of(chosen)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_is_the_same_step(sets, tmp_path, monkeypatch):
    """Traced and differentiated, but not translated to C++, which takes a minute and a compiler."""
    traced = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    plain, compiled = a_run(sets, tmp_path), a_run(sets, tmp_path, compile=True)
    close(gradients(plain), gradients(compiled), 1e-4)
    assert set(compiled.model.state_dict()) == set(plain.model.state_dict())


def test_tf32_is_switched_for_the_run_and_back(sets, tmp_path):
    before = torch.get_float32_matmul_precision()
    run = a_run(sets, tmp_path, tf32=True)
    with run.precision.of_products():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
