"""The losses against values worked out by hand and a dense reference in float64."""

import pytest
import torch
from torch import Tensor

from efficientdet.loss import box_loss, detection_loss, focal_loss
from efficientdet.matcher import Targets

SIZES = [(2, 3), (1, 2)]
BATCH, CLASSES = 2, 3
NUM_ANCHORS = 9 * (6 + 2)


def make_targets(*rows: tuple[int, int, int, list[float]]) -> Targets:
    """Return targets from rows of picture, anchor, label and code."""
    images, anchors, labels, codes = zip(*rows, strict=True) if rows else ((), (), (), ())
    indices = [torch.tensor(column, dtype=torch.long) for column in (images, anchors, labels)]
    return Targets(*indices, torch.tensor(codes).reshape(-1, 4))


# The first and last anchor of each level, two pictures with the same anchor, codes of zero.
TARGETS = make_targets(
    (0, 0, 2, [0.2, -0.1, 0.0, 3.0]),
    (0, 31, 0, [0.0, 0.0, 0.0, 0.0]),
    (0, 53, 1, [-0.4, 0.05, 1.0, -2.0]),
    (1, 31, 1, [0.3, 0.3, -0.3, 0.3]),
    (1, 54, 2, [0.1, 0.0, -0.1, 0.01]),
    (1, 71, 0, [-1.0, 2.0, 0.5, 0.0]),
)


def make_outputs(scale: float) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    logits = [scale * torch.randn(BATCH, 9 * CLASSES, *s, generator=generator) for s in SIZES]
    codes = [0.3 * torch.randn(BATCH, 9 * 4, *s, generator=generator) for s in SIZES]
    return logits, codes


def dense_reference(
    class_logits: list[Tensor], box_codes: list[Tensor], targets: Targets
) -> tuple[Tensor, Tensor]:
    """Return both losses from dense targets, written as the formulas are."""

    def rows(levels: list[Tensor], columns: int) -> Tensor:
        flat = [x.double().permute(0, 2, 3, 1).reshape(BATCH, -1, columns) for x in levels]
        return torch.cat(flat, 1)

    x, codes = rows(class_logits, CLASSES), rows(box_codes, 4)
    y, wanted = torch.zeros_like(x), torch.zeros_like(codes)
    y[targets.images, targets.anchors, targets.labels] = 1
    wanted[targets.images, targets.anchors] = targets.codes.double()
    log_p, log_q = -torch.logaddexp(-x, torch.zeros(())), -torch.logaddexp(x, torch.zeros(()))
    wrong = y * log_q.exp() + (1 - y) * log_p.exp()
    weight = 0.25 * y + 0.75 * (1 - y)
    focal = -weight * wrong**1.5 * (y * log_p + (1 - y) * log_q)
    error = (codes - wanted).abs()
    huber = torch.where(error <= 0.1, error**2 / 2, 0.1 * (error - 0.05)) * (wanted != 0)
    normalizer = len(targets.labels) + 1
    return focal.sum() / normalizer, huber.sum() / (4 * normalizer)


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("scale", [0.1, 3.0, 80.0])
@pytest.mark.parametrize("targets", [TARGETS, make_targets()], ids=["objects", "none"])
def test_value_and_gradients_equal_the_dense_reference(scale: float, targets: Targets) -> None:
    logits, codes = make_outputs(scale)
    leaves = [x.requires_grad_() for x in logits + codes]
    loss = detection_loss(logits, codes, targets)
    gradients = torch.autograd.grad(loss.total, leaves)
    classes, boxes = dense_reference(logits, codes, targets)
    expected = torch.autograd.grad(classes + 50 * boxes, leaves)
    torch.testing.assert_close(loss.classes.double(), classes, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.boxes.double(), boxes, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.total.double(), classes + 50 * boxes, rtol=1e-5, atol=0)
    for index in range(len(SIZES)):
        assert relative(gradients[index], expected[index].double()) < 1e-5
        box_gradient, box_expected = gradients[2 + index], expected[2 + index]
        torch.testing.assert_close(box_gradient, box_expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layout", ["rows", "channels last", "a part of more"])
def test_gradients_of_any_layout_worked_out_in_pieces(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efficientdet.loss._CACHED", 50)  # of 324 and 108 entries
    logits, codes = make_outputs(3.0)
    leaves = [x.clone().requires_grad_() for x in logits]
    seen = {
        "rows": lambda x: x * 1,
        "channels last": lambda x: (x * 1).contiguous(memory_format=torch.channels_last),
        "a part of more": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    }[layout]
    loss = focal_loss([seen(x) for x in leaves], TARGETS)
    gradients = torch.autograd.grad(loss, leaves)
    expected = torch.autograd.grad(dense_reference(leaves, codes, TARGETS)[0] * 7, leaves)
    for found, wanted in zip(gradients, expected, strict=True):
        assert relative(found, wanted.double()) < 1e-5


def test_second_pass_over_the_gradient_is_refused() -> None:
    logits = [x.requires_grad_() for x in make_outputs(1.0)[0]]
    loss = focal_loss(logits, TARGETS)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_half_precision_survive_small_slopes(dtype: torch.dtype) -> None:
    # p = 3e-4: slopes of 1e-9 that float16 has only once the loss is scaled, as it is in training.
    logits = [torch.full((1, 9, 2, 3), -8.0, dtype=dtype, requires_grad=True)]
    (found,) = torch.autograd.grad(focal_loss(logits, make_targets()) * 2.0**20, logits)
    exact = [logits[0].detach().double().requires_grad_()]
    x = exact[0]
    wanted = (0.75 * x.sigmoid() ** 1.5 * torch.nn.functional.softplus(x)).sum() * 2.0**20
    (expected,) = torch.autograd.grad(wanted, exact)
    assert found.dtype == dtype
    assert relative(found, expected) < 0.01


def test_focal_loss_literal() -> None:
    # log(2) = 0.693147 for x = 0; background 0.75 * 0.5^1.5 * 0.693147 = 0.183799, positive
    # 0.25 / 0.75 of it, 0.061266. x = log(3): p = 0.75, background 0.75 * 0.75^1.5 * log(4) =
    # 0.675324, positive 0.25 * 0.25^1.5 * -log(0.75) = 0.008990.
    x = torch.zeros(1, 9, 1, 1)
    x[0, 4], x[0, 5] = 1.098612, 1.098612
    targets = make_targets((0, 0, 0, [1.0] * 4), (0, 4, 0, [1.0] * 4))
    # 6 background of 0, positive of 0, positive and background of log(3)
    expected = 6 * 0.183799 + 0.061266 + 0.008990 + 0.675324
    torch.testing.assert_close(focal_loss([x], targets).item(), expected, rtol=1e-5, atol=0)


def test_huber_loss_literal() -> None:
    codes = torch.full((1, 36, 1, 1), 9.0)
    codes[0, 8:12, 0, 0] = torch.tensor([1.05, 7.0, 0.7, -0.9])
    targets = make_targets((0, 2, 0, [1.0, 0.0, 1.0, -1.0]))
    # error 0.05: 0.05^2 / 2 = 0.00125; target 0 does not count; error 0.3: 0.1 * (0.3 - 0.05) =
    # 0.025; error 0.1, where both forms meet: 0.005
    total = 0.00125 + 0.025 + 0.005
    torch.testing.assert_close(box_loss([codes], targets).item(), total, rtol=1e-5, atol=0)
    loss = detection_loss([torch.zeros(1, 9, 1, 1)], [codes], targets)
    # One positive: divided by 4 * (1 + 1); the classes 8 * 0.183799 + 0.061266 by 1 + 1.
    torch.testing.assert_close(loss.boxes.item(), total / 8, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.classes.item(), 0.765828, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.total.item(), 0.765828 + 50 * total / 8, rtol=1e-5, atol=0)


def test_custom_weights() -> None:
    x = torch.zeros(1, 9, 1, 1)
    # gamma 2, alpha 0.4: 9 * 0.6 * 0.25 * 0.693147
    loss = focal_loss([x], make_targets(), alpha=0.4, gamma=2.0)
    torch.testing.assert_close(loss.item(), 0.935749, rtol=1e-5, atol=0)


def test_zero_target_has_no_gradient() -> None:
    codes = torch.ones(1, 36, 1, 1, requires_grad=True)
    box_loss([codes], make_targets((0, 0, 0, [0.0, 5.0, 0.0, -5.0]))).backward()
    assert codes.grad is not None
    # Errors beyond delta have a slope of 0.1.
    torch.testing.assert_close(codes.grad[0, :4, 0, 0], torch.tensor([0.0, -0.1, 0.0, 0.1]))
    assert codes.grad[0, 4:].abs().sum() == 0


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_extreme_logits_stay_finite(sign: float) -> None:
    logits, codes = make_outputs(1.0)
    logits = [torch.full_like(x, 80 * sign, requires_grad=True) for x in logits]
    loss = detection_loss(logits, codes, TARGETS)
    loss.total.backward()
    # 6 positives at -80 cost 0.25 * 80 each, the others nothing; at +80 the other 426 entries of
    # 2 pictures * 72 anchors * 3 classes = 432 cost 0.75 * 80 each; over 6 + 1.
    expected = 6 * 20 / 7 if sign < 0 else 426 * 60 / 7
    torch.testing.assert_close(loss.classes.item(), expected, rtol=1e-5, atol=0)
    for x in logits:
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_no_objects() -> None:
    logits, codes = make_outputs(1.0)
    leaves = [x.requires_grad_() for x in logits + codes]
    loss = detection_loss(logits, codes, make_targets())
    assert loss.boxes.item() == 0.0
    gradients = torch.autograd.grad(loss.total, leaves)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[:2])
    assert all(gradient.abs().sum() == 0 for gradient in gradients[2:])


def test_gradient_equals_finite_differences() -> None:
    logits, codes = make_outputs(2.0)
    flat = torch.cat([x.flatten() for x in logits])
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(1)).double()

    def loss_at(step: float) -> Tensor:
        moved = (flat.double() + step * direction).split([x.numel() for x in logits])
        parts = [part.view_as(x) for part, x in zip(moved, logits, strict=True)]
        return dense_reference(parts, codes, TARGETS)[0]

    slope = (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4
    leaves = [x.requires_grad_() for x in logits]
    gradients = torch.autograd.grad(detection_loss(leaves, codes, TARGETS).total, leaves)
    flat_gradient = torch.cat([gradient.flatten() for gradient in gradients]).double()
    torch.testing.assert_close(flat_gradient @ direction, slope, rtol=1e-4, atol=0)


def test_half_precision_outputs_lose_little() -> None:
    logits, codes = make_outputs(2.0)
    full = detection_loss(logits, codes, TARGETS)
    half = detection_loss([x.bfloat16() for x in logits], [x.bfloat16() for x in codes], TARGETS)
    assert half.total.dtype == torch.float32
    torch.testing.assert_close(half.total, full.total, rtol=0.01, atol=0)
