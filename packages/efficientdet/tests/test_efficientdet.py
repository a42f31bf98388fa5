"""The whole detector: shapes at any size, predictions, weights and learning."""

from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbone.errors import UserError
from efficientdet import Detections, EfficientDet, create_model
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign

# Sizes of levels 3 to 7: halved and rounded up, again and again.
SIZES = {
    (128, 128): [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)],
    (131, 200): [(17, 25), (9, 13), (5, 7), (3, 4), (2, 2)],
    (64, 96): [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)],
}


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    torch.manual_seed(0)
    return create_model("efficientdet_d0", num_classes=5).eval()


def test_one_model_takes_any_size(model: EfficientDet) -> None:
    for size, maps in SIZES.items():
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            class_logits, box_codes = model(images)
        assert [tuple(x.shape) for x in class_logits] == [(2, 45, *hw) for hw in maps]
        assert [tuple(x.shape) for x in box_codes] == [(2, 36, *hw) for hw in maps]
        assert len(model.anchors(images)) == 9 * sum(h * w for h, w in maps)
        assert model.anchors(images) is model.anchors(images)


def test_d7x_has_a_sixth_level() -> None:
    with torch.device("meta"):
        class_logits, _ = create_model("efficientdet_d7x").eval()(torch.zeros(1, 3, 256, 320))
    assert [tuple(x.shape[-2:]) for x in class_logits][-2:] == [(2, 3), (1, 2)]
    assert len(class_logits) == 6


def test_predict(model: EfficientDet) -> None:
    images = torch.randint(0, 256, (2, 3, 131, 200), dtype=torch.uint8)
    results = model.predict(images, max_detections=7)
    assert len(results) == 2
    for found in results:
        assert isinstance(found, Detections)
        assert found.boxes_xyxy.shape == (7, 4)
        assert found.scores.shape == found.labels.shape == (7,)
        assert (found.scores.diff() <= 0).all()
        assert ((found.labels >= 0) & (found.labels < 5)).all()
        # an untrained network calls everything an object at about 0.01
        assert (found.scores > 0.001).all()
        assert (found.scores < 0.2).all()
    assert all(len(found.scores) == 0 for found in model.predict(images, score_threshold=0.9))


def test_normalize(model: EfficientDet) -> None:
    images = torch.tensor([0, 255, 124], dtype=torch.uint8).view(1, 3, 1, 1)
    # (0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (124 / 255 - 0.406) / 0.225
    expected = torch.tensor([-2.117904, 2.428571, 0.356776])
    torch.testing.assert_close(model.normalize(images).flatten(), expected)


def test_prior_bias_and_names_of_the_state(model: EfficientDet) -> None:
    bias = model.class_head.predict.pointwise.bias
    assert bias is not None
    # -log(0.99 / 0.01) = -log(99)
    torch.testing.assert_close(bias, torch.full((45,), -4.59512), rtol=1e-6, atol=0)
    assert model.box_head.predict.pointwise.bias is not None
    assert model.box_head.predict.pointwise.bias.abs().sum() == 0
    assert {name.split(".")[0] for name in model.state_dict()} == {
        "pyramid",
        "bifpn",
        "class_head",
        "box_head",
    }


def test_heads_share_convolutions_but_not_norms(model: EfficientDet) -> None:
    head = model.class_head
    x = torch.randn(1, 64, 4, 4)
    with torch.no_grad():
        before = head({3: x, 4: x})
        assert torch.equal(*before)
        norm = head.norms["4"][0]  # type: ignore[index]
        assert isinstance(norm, nn.BatchNorm2d)
        norm.bias.add_(1.0)
        after = head({3: x, 4: x})
        norm.bias.sub_(1.0)
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_state_round_trip(model: EfficientDet, tmp_path: Path) -> None:
    path = tmp_path / "d0.safetensors"
    save_file(model.state_dict(), path)
    other = create_model("efficientdet_d0", num_classes=5, weights=path).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(chain(*model(images)), chain(*other(images)), strict=True):
            assert torch.equal(ours, theirs)
    with pytest.raises(UserError, match="class_head"):
        create_model("efficientdet_d0", num_classes=6, weights=path)


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="did you mean efficientdet_d7x"):
        create_model("efficientdet-d7x")


class TwoConvolutions(nn.Module):
    """The smallest pyramid that gives levels 3 to 5."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = {3: 4, 4: 6, 5: 8}
        self.p3 = nn.Conv2d(3, 4, 8, stride=8)
        self.p4 = nn.Conv2d(4, 6, 2, stride=2)
        self.p5 = nn.Conv2d(6, 8, 2, stride=2)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        p3 = self.p3(images)
        p4 = self.p4(p3)
        return {3: p3, 4: p4, 5: self.p5(p4)}


def test_any_pyramid_will_do() -> None:
    detector = create_model("efficientdet_d0", num_classes=2, backbone=TwoConvolutions()).eval()
    class_logits, _ = detector(torch.randn(1, 3, 64, 128))
    assert [tuple(x.shape[-2:]) for x in class_logits] == [(8, 16), (4, 8), (2, 4), (1, 2), (1, 1)]


def test_loss_falls_on_one_batch() -> None:
    torch.manual_seed(0)
    detector = create_model("efficientdet_d0", num_classes=3)
    images = torch.randn(2, 3, 64, 64)
    boxes = [torch.tensor([[4.0, 4, 36, 40], [30, 30, 60, 62]]), torch.tensor([[8.0, 20, 56, 44]])]
    labels = [torch.tensor([0, 2]), torch.tensor([1])]
    targets = assign(detector.anchors(images), boxes, labels)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = detection_loss(*detector(images), targets)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append((loss.classes.item(), loss.boxes.item()))
    first, last = losses[0], losses[-1]
    assert last[0] < 0.5 * first[0]
    assert last[1] < 0.5 * first[1]
