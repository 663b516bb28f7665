from __future__ import annotations

import math

import pytest
import torch

from spotscope.nets.hsic import bottleneck, cka, gaussian_kernel, hsic, median_scale, nhsic


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def y(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:, :2] ** 2, x[:, 3:4].sin()], dim=1)


def test_hsic_matches_the_double_sum(x: torch.Tensor, y: torch.Tensor) -> None:
    n = len(x)
    k = gaussian_kernel(x, 1.5).double()
    m = gaussian_kernel(y, 0.7).double()
    # tr(KJMJ) = sum_ij K M + (sum K)(sum M)/n^2 - 2/n sum_i (row sum K)(row sum M)
    total = (k * m).sum() + k.sum() * m.sum() / n**2 - 2 / n * (k.sum(0) * m.sum(0)).sum()
    assert hsic(x, y, 1.5, 0.7).item() == pytest.approx(total.item() / (n - 1) ** 2, rel=1e-5)


def test_kernel_is_the_stated_form_and_converts_the_published_sigma() -> None:
    rows = torch.tensor([[0.0], [3.0]])
    assert gaussian_kernel(rows, 2.0)[0, 1].item() == pytest.approx(math.exp(-9 / 8), rel=1e-6)
    published = math.exp(-9 / 10**2)
    assert gaussian_kernel(rows, 10 / math.sqrt(2))[0, 1].item() == pytest.approx(published)


def test_normalised_hsic_with_itself_is_h_over_one_plus_h(x: torch.Tensor) -> None:
    h = hsic(x, x, 1.0, 1.0).item()
    assert nhsic(x, x, 1.0, 1.0).item() == pytest.approx(h / (1 + h), rel=1e-5)
    assert cka(x, x).item() == pytest.approx(1, rel=1e-6)


def test_normalised_hsic_divides_by_both_sides(x: torch.Tensor, y: torch.Tensor) -> None:
    own = (1 + hsic(x, x, 3.0, 3.0).item()) * (1 + hsic(y, y, 0.7, 0.7).item())
    expected = hsic(x, y, 3.0, 0.7).item() / math.sqrt(own)
    assert nhsic(x, y, 3.0, 0.7).item() == pytest.approx(expected, rel=1e-5)
    other = (1 + hsic(x, x, 3.0, 3.0).item()) / (1 + hsic(y, y, 0.7, 0.7).item())
    assert abs(other - 1) > 1e-3  # so that one side taken twice would show


def test_hsic_is_zero_with_a_constant_symmetric_and_not_negative(
    x: torch.Tensor, y: torch.Tensor
) -> None:
    assert abs(hsic(x, torch.ones(40, 3)).item()) < 1e-7
    assert hsic(x, y).item() == pytest.approx(hsic(y, x).item(), rel=1e-6)
    assert hsic(x, y).item() > 0


def test_hsic_ignores_rotation_translation_and_a_joint_shuffle(
    x: torch.Tensor, y: torch.Tensor
) -> None:
    before = hsic(x, y).item()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    assert hsic(x @ turn + 50, y).item() == pytest.approx(before, rel=1e-3)
    assert hsic(x[order], y[order]).item() == pytest.approx(before, rel=1e-5)


def test_dependent_samples_score_above_independent_ones(x: torch.Tensor, y: torch.Tensor) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    assert nhsic(x, y).item() > 1.5 * nhsic(x, y[order]).item()


def test_median_scale_is_the_median_distance_and_never_zero() -> None:
    assert median_scale(torch.tensor([[0.0], [1.0], [10.0]])).item() == pytest.approx(9.0)
    assert median_scale(torch.ones(5, 2)).item() > 0
    assert torch.isfinite(hsic(torch.ones(1, 2), torch.ones(1, 2)))


def test_mixed_precision_leaves_hsic_in_float32(x: torch.Tensor, y: torch.Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        mixed = nhsic(x, y)
    assert mixed.item() == pytest.approx(nhsic(x, y).item(), rel=1e-6)


def test_bottleneck_forgets_the_input_and_keeps_the_result(
    x: torch.Tensor, y: torch.Tensor
) -> None:
    middle = y.clone().requires_grad_()
    loss, forget, keep = bottleneck(x, middle, y, beta=25.0)
    assert loss.item() == pytest.approx(forget.item() - 25 * keep.item(), rel=1e-6)
    loss.backward()
    assert torch.isfinite(middle.grad).all()
