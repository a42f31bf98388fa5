"""Box codes against values worked out by hand, and back."""

import torch

from efficientdet.boxes import decode, encode

ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 20.0]])  # centre 5, 10; width 10, height 20
BOX = torch.tensor([[5.0, 10.0, 25.0, 20.0]])  # centre 15, 15; width 20, height 10
# (15 - 10) / 20, (15 - 5) / 10, log(10 / 20), log(20 / 10)
CODE = torch.tensor([[0.25, 1.0, -0.693147, 0.693147]])


def test_encode_literal() -> None:
    torch.testing.assert_close(encode(BOX, ANCHOR), CODE, rtol=0, atol=1e-6)


def test_decode_literal() -> None:
    torch.testing.assert_close(decode(CODE, ANCHOR), BOX, rtol=0, atol=1e-4)


def test_decode_undoes_encode() -> None:
    torch.manual_seed(0)
    corners = torch.rand(2, 200, 2) * 500
    boxes, anchors = torch.cat((corners, corners + 1 + torch.rand(2, 200, 2) * 300), -1)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, rtol=0, atol=1e-3)


def test_the_same_box_has_code_zero() -> None:
    assert encode(ANCHOR, ANCHOR).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_empty_box_has_a_finite_code() -> None:
    assert encode(torch.tensor([[3.0, 3.0, 3.0, 3.0]]), ANCHOR).isfinite().all()


def test_no_boxes() -> None:
    empty = torch.zeros(0, 4)
    assert encode(empty, empty).shape == decode(empty, empty).shape == (0, 4)
