"""Expected values are worked out by hand from the formulas, with math.erf where a normal cdf is needed."""

import math

import pytest
import torch
from scipy.stats import pearsonr

from liqe_core.losses import distortion_loss, plcc_loss, quality_loss, regression_loss, scene_loss


def phi(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def fidelity_loss(p, g, e=1e-8):
    return 1 - math.sqrt(p * g + e) - math.sqrt((1 - p) * (1 - g) + e)


@pytest.mark.parametrize("spread", [1, math.sqrt(2)])
def test_quality_loss_of_two_images(spread):
    loss = quality_loss(torch.tensor([3.0, 2.0]), torch.tensor([10.0, 20.0]), torch.zeros(2), spread=spread)
    # The first has the lower MOS, g = 0; its prediction is higher by 1: p = Phi(1), or sqrt(2) in the paper.
    assert float(loss) == pytest.approx(fidelity_loss(phi(1 / spread), 0.0), abs=1e-6)


def test_quality_loss_is_the_mean_over_pairs_then_over_data_sets():
    quality = torch.tensor([1.0, 2.0, 4.0, 3.0, 3.5])
    mos = torch.tensor([0.1, 0.1, 0.9, 60.0, 20.0])  # the first two are tied: g = 1/2
    dataset = torch.tensor([7, 7, 7, 2, 2])
    first = (fidelity_loss(phi(-1), 0.5) + fidelity_loss(phi(-3), 0.0) + fidelity_loss(phi(-2), 0.0)) / 3
    second = fidelity_loss(phi(-0.5), 1.0)
    assert float(quality_loss(quality, mos, dataset)) == pytest.approx((first + second) / 2, abs=1e-6)
    # the order in which images stand in the batch does not matter, nor that sets are interleaved
    shuffle = torch.tensor([3, 0, 4, 2, 1])
    shuffled = quality_loss(quality[shuffle], mos[shuffle], dataset[shuffle])
    assert float(shuffled) == pytest.approx((first + second) / 2, abs=1e-6)


@pytest.mark.parametrize("mos, dataset", [([1.0, 2.0], [0, 1]), ([1.0, math.nan], [0, 0])])
def test_a_batch_without_a_pair_has_no_loss(mos, dataset):
    quality = torch.tensor([3.0, 2.0], requires_grad=True)
    for pair_mean in ("sets", "pairs"):
        loss = quality_loss(quality, torch.tensor(mos), torch.tensor(dataset), pair_mean=pair_mean)
        loss.backward()
        assert loss == 0 and quality.grad.tolist() == [0, 0]


def test_the_mean_over_all_pairs_lets_a_large_set_weigh_more():
    quality = torch.tensor([3.0, 2.0, 2.5, 1.0, 4.0])
    mos, dataset = torch.tensor([3.0, 1.0, 2.0, 10.0, 20.0]), torch.tensor([0, 0, 0, 1, 1])
    of_first = [fidelity_loss(phi(d), 1.0) for d in (1.0, 0.5)] + [fidelity_loss(phi(-0.5), 0.0)]
    of_other = fidelity_loss(phi(-3.0), 0.0)
    over_pairs = quality_loss(quality, mos, dataset, pair_mean="pairs")
    assert over_pairs.item() == pytest.approx((sum(of_first) + of_other) / 4, abs=1e-6)
    over_sets = quality_loss(quality, mos, dataset)
    assert over_sets.item() == pytest.approx((sum(of_first) / 3 + of_other) / 2, abs=1e-6)
    assert abs(over_pairs - over_sets) > 1e-3


def test_of_two_equal_scores_the_first_is_preferred_with_one_half_or_one():
    quality, mos, dataset = torch.tensor([3.0, 2.0]), torch.tensor([5.0, 5.0]), torch.zeros(2)
    half = quality_loss(quality, mos, dataset)
    assert half.item() == pytest.approx(fidelity_loss(phi(1.0), 0.5), abs=1e-6)
    preferred = quality_loss(quality, mos, dataset, ties="preferred")
    assert preferred.item() == pytest.approx(fidelity_loss(phi(1.0), 1.0), abs=1e-6)
    other_way = quality_loss(quality.flip(0), mos, dataset, ties="preferred")
    assert other_way.item() == pytest.approx(fidelity_loss(phi(-1.0), 1.0), abs=1e-6)
    for order in (mos - torch.tensor([0.0, 1.0]), mos - torch.tensor([1.0, 0.0])):  # nothing else changes
        preferred = quality_loss(quality, order, dataset, ties="preferred")
        assert preferred == quality_loss(quality, order, dataset)


@pytest.mark.parametrize("wrong", [{"pair_mean": "all"}, {"ties": "lost"}])
def test_unknown_means_and_ties_are_rejected_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        quality_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), **wrong)


def test_images_without_a_score_or_a_partner_add_nothing_to_the_loss():
    quality = torch.tensor([1.0, 9.0, 2.0, 4.0, 3.0, 3.5, 2.5, 1.0, 2.0, 5.0], requires_grad=True)
    mos = torch.tensor([0.5, math.nan, 0.1, 0.9, math.nan, 60.0, 20.0, math.nan, math.nan, 1.0])
    dataset = torch.tensor([7, 7, 7, 7, 2, 2, 2, 5, 5, 4])
    scored = ~mos.isnan() & (dataset != 4)
    loss = quality_loss(quality, mos, dataset)
    loss.backward()
    without = quality.detach()[scored].requires_grad_()
    expected = quality_loss(without, mos[scored], dataset[scored])
    expected.backward()
    assert loss.isfinite() and loss.item() == expected.item()
    assert not quality.grad[~scored].any()
    assert torch.equal(quality.grad[scored], without.grad) and without.grad.abs().min() > 0


def test_plcc_loss_is_one_minus_pearsons_correlation_of_each_set_weighed_by_its_scored_images():
    quality = torch.tensor([1.0, 2.0, 4.0, 9.0, 3.0, 1.0, 2.0, 2.0], dtype=torch.float64)
    mos = torch.tensor([10.0, 30.0, 20.0, math.nan, 1.0, 2.0, 5.0, 4.0], dtype=torch.float64)
    dataset = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    first = 1 - pearsonr([1, 2, 4], [10, 30, 20])[0]
    second = 1 - pearsonr([3, 1, 2, 2], [1, 2, 5, 4])[0]
    assert float(plcc_loss(quality, mos, dataset)) == pytest.approx((3 * first + 4 * second) / 7)
    assert float(plcc_loss(5 - 2 * mos[4:], mos[4:], dataset[4:])) == pytest.approx(2), "a line that falls"


@pytest.mark.parametrize(
    ("quality", "mos"),
    [
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
        ([1.0, 2.0, 3.0], [1.0, 2.0, math.nan]),
        ([1.0], [1.0]),
    ],
    ids=["predictions alike", "scores alike", "two scores", "one image"],
)
def test_a_dataset_without_a_correlation_adds_nothing_to_plcc_loss(quality, mos):
    prediction = torch.tensor(quality, requires_grad=True)
    loss = plcc_loss(prediction, torch.tensor(mos), torch.zeros(len(mos), dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and not prediction.grad.any()


def test_regression_loss_lays_each_sets_scale_over_one_to_five():
    quality = torch.tensor([1.0, 4.0, 3.0, 2.0], requires_grad=True)
    mos = torch.tensor([0.0, 0.5, 60.0, math.nan], dtype=torch.float64)
    loss = regression_loss(quality, mos, torch.tensor([0, 0, 1, 1]), torch.tensor([[0, 1], [20.0, 100]]))
    loss.backward()
    assert loss.item() == pytest.approx((0 + 1 + 0) / 3), "wanted are 1, 3 and 3"
    assert quality.grad.tolist() == pytest.approx([0, 2 / 3, 0, 0])
    unscored = torch.tensor([2.0], requires_grad=True)
    ends = torch.tensor([[0.0, 1.0]])
    loss = regression_loss(unscored, torch.tensor([math.nan]), torch.tensor([0]), ends)
    loss.backward()
    assert loss.item() == 0 and unscored.grad.tolist() == [0]


def test_the_gradient_is_finite_for_certain_predictions():
    quality = torch.tensor([5.0, 1.0, 1.0], requires_grad=True)
    quality_loss(quality * 100, torch.tensor([1.0, 2.0, 2.0]), torch.zeros(3, dtype=torch.long)).backward()
    assert quality.grad.isfinite().all()


def test_scene_loss_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    g = torch.tensor([[1, 1, 0], [0, 0, 1]])
    rows = [
        sum(fidelity_loss(*pair) for pair in ((0.5, 1), (0.3, 1), (0.2, 0))) / 3,
        sum(fidelity_loss(*pair) for pair in ((0.1, 0), (0.1, 0), (0.8, 1))) / 3,
    ]
    assert float(scene_loss(p, g)) == pytest.approx(sum(rows) / 2, abs=1e-6)


def test_distortion_loss_by_hand():
    p = torch.tensor([[0.25, 0.75], [0.64, 0.36]])
    g = torch.tensor([[1, 0], [0, 1]])
    by_hand = [1 - math.sqrt(0.25 + 1e-8) - math.sqrt(1e-8), 1 - math.sqrt(1e-8) - math.sqrt(0.36 + 1e-8)]
    assert float(distortion_loss(p, g)) == pytest.approx(sum(by_hand) / 2, abs=1e-6)


@pytest.mark.parametrize("loss", [scene_loss, distortion_loss])
def test_an_image_without_a_label_adds_nothing(loss):
    p = torch.tensor([[0.25, 0.75], [0.64, 0.36]], requires_grad=True)
    g = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    with_and_without = loss(p, g)
    assert with_and_without.item() == pytest.approx(loss(p[:1], g[:1]).item())
    with_and_without.backward()
    assert p.grad[1].tolist() == [0, 0] and p.grad[0, 0] != 0

    nothing = loss(p, torch.zeros(2, 2))
    assert nothing == 0 and nothing.isfinite()
    nothing.backward()


def test_a_marginal_that_rounds_above_one_is_clipped():
    p = torch.tensor([[1 + 2**-23, 0.0]], requires_grad=True)
    loss = scene_loss(p, torch.tensor([[0.0, 1.0]]))
    assert loss.item() == scene_loss(p.detach().clamp(max=1), torch.tensor([[0.0, 1.0]])).item()
    loss.backward()
    assert p.grad.isfinite().all()


def test_losses_have_the_type_of_the_predictions():
    """The public script's are float64, since its scores and labels are NumPy doubles."""
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert quality_loss(torch.rand(2), labels[0], torch.zeros(2)).dtype == torch.float32
    assert {loss(torch.rand(2, 2), labels).dtype for loss in (scene_loss, distortion_loss)} == {torch.float32}


def test_mismatched_shapes_are_rejected():
    with pytest.raises(ValueError, match="equal shape"):
        quality_loss(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="p_scene"):
        scene_loss(torch.zeros(2, 3), torch.zeros(3, 3))
