import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from heads.losses import IGNORED, NEGATIVE, sigmoid_focal_loss, smooth_l1_loss


def test_focal_loss_matches_a_hand_computed_example():
    # One positive and one negative element with p = 0.5: 0.25 * 0.25 * ln 2 + 0.75 * 0.25 * ln 2.
    loss = sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([1]))
    assert float(loss) == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 1.5)])
def test_focal_loss_and_gradient_agree_with_torchvision(alpha, gamma):
    torch.manual_seed(0)
    logits = (torch.randn(200, 5) * 4).requires_grad_()
    labels = torch.randint(-1, 5, (200,))
    loss = sigmoid_focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    (gradient,) = torch.autograd.grad(loss * 3, logits)

    one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), 5) * (labels >= 0)[:, None]
    expected = torchvision_focal_loss(logits, one_hot.float(), alpha=alpha, gamma=gamma, reduction="sum")
    (expected_gradient,) = torch.autograd.grad(expected * 3, logits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_extreme_logits_give_a_finite_loss_and_gradient():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1, NEGATIVE]))
    loss.backward()
    assert loss.item() == pytest.approx(0.75 * 200 + 0.25 * 200 + 0.75 * 200)
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, -0.25], [0.0, 0.75]]))


def test_ignored_rows_have_no_loss_and_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    with_ignored = sigmoid_focal_loss(logits, torch.tensor([2, IGNORED, NEGATIVE]))
    (gradient,) = torch.autograd.grad(with_ignored, logits)
    torch.testing.assert_close(with_ignored, sigmoid_focal_loss(logits[[0, 2]], torch.tensor([2, NEGATIVE])))
    assert gradient[1].abs().sum() == 0
    assert gradient[[0, 2]].abs().min() > 0


def test_bfloat16_logits_are_summed_in_float32():
    torch.manual_seed(0)
    logits = torch.randn(4000, 3).bfloat16().requires_grad_()
    labels = torch.randint(-1, 3, (4000,))
    loss = sigmoid_focal_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, sigmoid_focal_loss(logits.float(), labels))
    loss.backward()
    assert logits.grad.dtype == torch.bfloat16


def test_loss_of_zero_rows_is_zero():
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0


def test_smooth_l1_is_quadratic_below_beta_and_linear_above():
    loss = smooth_l1_loss(torch.tensor([0.1, 1.0]), torch.zeros(2))
    assert loss.tolist() == pytest.approx([0.5 * 0.01 * 9, 1.0 - 0.5 / 9])
