from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, layer_norm

from spotscope.nets.contrastive import (
    ContrastiveLoss,
    alignment_loss,
    hard_loss,
    soft_target_loss,
    soft_targets,
    top_k_hits,
    weighted_loss,
)
from spotscope.nets.projection import ProjectionHead, unit

KINDS = ("hard", "soft_target", "weighted", "weighted_separate", "alignment")


def pairs(n: int = 12, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, width, generator=generator), torch.randn(n, width, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [16, 128])
def test_loss_of_embeddings_that_know_nothing_is_ln_b(kind: str, batch: int) -> None:
    constant = torch.ones(batch, 4)
    out = ContrastiveLoss(kind)(constant, constant)
    assert out.loss.item() == pytest.approx(math.log(batch), rel=1e-6)
    assert out.chance.item() == pytest.approx(math.log(batch), rel=1e-6)


def test_hard_loss_is_cross_entropy_with_the_own_pair_both_ways() -> None:
    image, spot = pairs()
    logits = image @ spot.T
    own = torch.arange(12)
    expected = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    assert hard_loss(logits).item() == pytest.approx(expected.item(), rel=1e-6)
    assert hard_loss(logits.T).item() == pytest.approx(hard_loss(logits).item(), rel=1e-6)
    assert hard_loss(100 * torch.eye(12)).item() < 1e-6


def test_soft_targets_sum_to_one_and_their_one_hot_limit_is_the_hard_loss() -> None:
    image, spot = pairs()
    logits = image @ spot.T
    rows = soft_targets(image, spot).sum(dim=1)
    torch.testing.assert_close(rows, torch.ones(12), rtol=1e-6, atol=0)
    image, spot = unit(image), unit(spot)
    sharp = soft_target_loss(logits, image, spot, target_temperature=1e-3)
    assert sharp.item() == pytest.approx(hard_loss(logits).item(), rel=1e-6)
    smooth = soft_target_loss(logits, image, spot, target_temperature=1.0)
    assert abs(smooth.item() - hard_loss(logits).item()) > 0.1


def test_bleeps_targets_at_its_defaults_are_one_hot() -> None:
    image = layer_norm(torch.randn(64, 256, generator=torch.Generator().manual_seed(0)), [256])
    spot = layer_norm(torch.randn(64, 256, generator=torch.Generator().manual_seed(1)), [256])
    assert (soft_targets(image, spot) - torch.eye(64)).abs().max() < 1e-6


def test_bleeps_published_targets_are_transposed_for_the_images() -> None:
    image, spot = pairs()
    targets = ((image @ image.T + spot @ spot.T) / 2 / 10.0).softmax(dim=-1)
    assert (targets.T.sum(dim=1) - 1).abs().max() > 0.01
    of_spots = spot @ image.T  # the rows of its logits are the spots
    spots = -(targets * of_spots.log_softmax(dim=-1)).sum(dim=1)
    images = -(targets.T * of_spots.T.log_softmax(dim=-1)).sum(dim=1)
    expected = (spots + images).mean() / 2
    got = soft_target_loss(image @ spot.T, image, spot, 10.0, published=True)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    alike = soft_target_loss(of_spots, image, spot, 10.0, published=True)
    assert abs(alike.item() - got.item()) > 1e-3


@pytest.mark.parametrize("kind", ["soft_target", "weighted", "weighted_separate"])
def test_targets_and_weights_carry_no_gradient(kind: str) -> None:
    image, spot = (side.requires_grad_() for side in pairs())
    logits = torch.eye(12)  # not made of the embeddings
    if kind == "soft_target":
        assert not soft_target_loss(logits, image, spot, 10.0).requires_grad
        assert soft_target_loss(logits, image, spot, 10.0, published=True).requires_grad
    else:
        loss, _ = weighted_loss(logits, image, spot, separate=kind == "weighted_separate")
        assert not loss.requires_grad


def test_alignment_multiplies_where_bleep_divides() -> None:
    image, spot = pairs()
    logits = image @ spot.T
    expected = soft_target_loss(logits, image, spot, 4.0, published=True)
    assert alignment_loss(logits, image, spot, 0.25).item() == pytest.approx(expected.item())


def test_uniform_published_weights_divide_the_loss_by_the_batch() -> None:
    logits = pairs()[0] @ pairs()[1].T
    same = torch.ones(12, 3)
    loss, chance = weighted_loss(logits, same, same, normalise_weights=False)
    assert loss.item() * 12 == pytest.approx(hard_loss(logits).item(), rel=1e-6)
    assert chance.item() * 12 == pytest.approx(math.log(12), rel=1e-6)
    normalised, _ = weighted_loss(logits, same, same)
    assert normalised.item() == pytest.approx(hard_loss(logits).item(), rel=1e-6)


def test_separate_weights_equal_joint_ones_when_the_modalities_agree() -> None:
    image, spot = pairs()
    logits = image @ spot.T
    joint, _ = weighted_loss(logits, image, image, normalise_weights=False)
    separate, _ = weighted_loss(logits, image, image, separate=True, normalise_weights=False)
    assert separate.item() == pytest.approx(joint.item(), rel=1e-6)
    apart, _ = weighted_loss(logits, image, spot, separate=True, normalise_weights=False)
    mixed, _ = weighted_loss(logits, image, spot, normalise_weights=False)
    assert abs(apart.item() - mixed.item()) > 1e-3


@pytest.mark.parametrize("separate", [False, True])
def test_weights_that_rule_the_diagonal_give_the_hard_loss(separate: bool) -> None:
    image, spot = pairs()
    logits = image @ spot.T
    own = 30 * torch.eye(12)
    loss, _ = weighted_loss(logits, own, own, separate=separate, normalise_weights=False)
    assert loss.item() == pytest.approx(hard_loss(logits).item(), rel=1e-6)


def test_weighted_loss_of_two_pairs_matches_the_hand() -> None:
    # S = [[1, 0], [2, 3]]; S^vv = [[1, 0], [0, 4]]; S^gg = [[9, 3], [3, 2]]
    logits = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    image = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    spot = torch.tensor([[3.0, 0.0], [1.0, 1.0]])

    def share(own: float, other: float) -> float:
        return math.exp(own) / (math.exp(own) + math.exp(other))

    rows = [-math.log(share(1, 0)), -math.log(share(3, 2))]
    columns = [-math.log(share(1, 2)), -math.log(share(3, 0))]
    tau = 2.0
    joint = [share((1 + 9) / (2 * tau), 3 / (2 * tau)), share((4 + 2) / (2 * tau), 3 / (2 * tau))]
    expected = sum(w * (r + c) for w, r, c in zip(joint, rows, columns, strict=True)) / 4
    got, _ = weighted_loss(logits, image, spot, tau, normalise_weights=False)
    assert got.item() == pytest.approx(expected, rel=1e-6)

    to_spot, to_image = [share(1, 0), share(4, 0)], [share(9, 3), share(2, 3)]
    terms = [a * r + b * c for a, b, r, c in zip(to_spot, to_image, rows, columns, strict=True)]
    got, chance = weighted_loss(logits, image, spot, separate=True, normalise_weights=False)
    assert got.item() == pytest.approx(sum(terms) / 4, rel=1e-6)
    assert chance.item() == pytest.approx(sum(to_spot + to_image) / 4 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_trains_both_sides(kind: str) -> None:
    image, spot = (side.requires_grad_() for side in pairs())
    ContrastiveLoss(kind, normalise=True)(image, spot).loss.backward()
    for side in (image, spot):
        assert side.grad is not None
        assert side.grad.abs().sum() > 0


def test_learnt_temperature_stays_at_least_a_hundredth_and_can_come_back() -> None:
    loss = ContrastiveLoss("hard", temperature=1e-4, learn_temperature=True, normalise=True)
    # Unlike pairs: a lower scale is better, so the gradient must still reach the temperature.
    loss(torch.eye(4), torch.eye(4).roll(1, 0)).loss.backward()
    assert loss.temperature.item() == pytest.approx(0.01, rel=1e-5)
    assert loss.log_scale.grad.item() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_leaves_the_loss_in_float32(kind: str) -> None:
    image, spot = pairs()
    loss = ContrastiveLoss(kind)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(image, spot).loss
    assert mixed.item() == pytest.approx(loss(image, spot).loss.item(), rel=1e-6)


def test_hits_count_the_own_pair_and_not_ties() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [5.0, 4.0, 0.0], [2.0, 1.0, 0.0]])
    top1, top2 = top_k_hits(logits, (1, 2))
    assert top1.item() == pytest.approx(1 / 3)
    assert top2.item() == pytest.approx(2 / 3)
    assert top_k_hits(torch.zeros(9, 9))[1].item() == 0


def test_head_follows_its_equation_and_ignores_the_rest_of_the_batch() -> None:
    head = ProjectionHead(5, 6, dropout=0.5).eval()
    x = torch.randn(7, 5)
    projected = head.project(x)
    refined = head.refine(torch.nn.functional.gelu(projected))
    torch.testing.assert_close(head(x), layer_norm(projected + refined, [6]))
    torch.testing.assert_close(head(x)[2:3], head(x[2:3]))
