"""The whole detector: shapes at any size, predictions, weights and learning."""

from copy import deepcopy
from itertools import chain
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from compound.errors import UserError
from compound.export.folding import fold
from efficientdet import Detections, EfficientDet, create_model
from efficientdet.bifpn import FusionNode
from efficientdet.heads import Head
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign
from efficientdet.postprocess import postprocess

# Sizes of levels 3 to 7: halved and rounded up, again and again.
SIZES = {
    (128, 128): [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)],
    (131, 200): [(17, 25), (9, 13), (5, 7), (3, 4), (2, 2)],
    (64, 96): [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)],
}


def pictures(num: int, height: int, width: int) -> Tensor:
    """Return random uint8 pictures of large patches, which differ on every level."""
    patches = torch.randint(0, 256, (num, 3, 5, 5)).float()
    return F.interpolate(patches, (height, width)).to(torch.uint8)


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    """Return a random network whose norms know their inputs, without which outputs are constant."""
    torch.manual_seed(0)
    detector = create_model("efficientdet_d0", num_classes=5)
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        detector(detector.normalize(pictures(8, 128, 128)))
    return detector.eval()


def test_one_model_takes_any_size(model: EfficientDet) -> None:
    for size, maps in SIZES.items():
        images = model.normalize(pictures(2, *size))
        with torch.no_grad():
            class_logits, box_codes = model(images)
        assert [tuple(x.shape) for x in class_logits] == [(2, 45, *hw) for hw in maps]
        assert [tuple(x.shape) for x in box_codes] == [(2, 36, *hw) for hw in maps]
        assert all(x.isfinite().all() for x in chain(class_logits, box_codes))
        assert len(model.anchors(images)) == 9 * sum(h * w for h, w in maps)
        assert model.anchors(images) is model.anchors(images)


def test_d7x_has_a_sixth_level() -> None:
    with torch.device("meta"):
        class_logits, _ = create_model("efficientdet_d7x").eval()(torch.zeros(1, 3, 256, 320))
    assert [tuple(x.shape[-2:]) for x in class_logits][-2:] == [(2, 3), (1, 2)]
    assert len(class_logits) == 6


def test_predict(model: EfficientDet) -> None:
    torch.manual_seed(1)
    images = pictures(2, 128, 128)
    results = model.predict(images, max_detections=7)
    with torch.no_grad():
        outputs = model(model.normalize(images))
    expected = postprocess(*outputs, model.anchors(images), max_detections=7)
    for found, wanted in zip(results, expected, strict=True):
        assert isinstance(found, Detections)
        assert found.boxes_xyxy.shape == (7, 4)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))
        assert (found.scores.diff() <= 0).all()
        assert ((found.labels >= 0) & (found.labels < 5)).all()
    assert all(len(found.scores) == 0 for found in model.predict(images, score_threshold=1.1))


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


def test_heads_share_convolutions_but_not_norms() -> None:
    torch.manual_seed(0)
    head = Head(8, 9, repeats=1, levels=range(3, 5), bias=0.0, act="silu").eval()
    x = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        before = head({3: x, 4: x})
        assert torch.equal(*before)
        for name, parameter in head.norms["4"].named_parameters():
            parameter.add_(1.0)
            assert name in ("0.weight", "0.bias")
        after = head({3: x, 4: x})
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_state_round_trip(model: EfficientDet, tmp_path: Path) -> None:
    path = tmp_path / "d0.safetensors"
    save_file(model.state_dict(), path)
    other = create_model("efficientdet_d0", num_classes=5, weights=path).eval()
    images = model.normalize(pictures(1, 64, 96))
    with torch.no_grad():
        for ours, theirs in zip(chain(*model(images)), chain(*other(images)), strict=True):
            assert torch.equal(ours, theirs)
    # Other classes whose names are not known: all but the last layer's rows.
    part = create_model("efficientdet_d0", num_classes=6, weights=path)
    assert "class rows of 6 of 6 classes, now random" in str(part.load_report)


def test_recomputing_changes_nothing_but_memory() -> None:
    torch.manual_seed(0)
    plain = create_model("efficientdet_d1", num_classes=2)
    lean = deepcopy(plain)
    lean.recompute(["backbone", "bifpn", "heads"])
    images = torch.randn(2, 3, 64, 64)
    saved = []
    for detector in (plain, lean):
        torch.manual_seed(1)
        kept: list[int] = []

        def note(x: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = sum(x.square().mean() for x in chain(*detector(images)))
        assert isinstance(loss, Tensor)
        loss.backward()
        saved.append(sum(kept))
    assert saved[1] < 0.5 * saved[0]
    for ours, theirs in zip(plain.parameters(), lean.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-5, atol=1e-7)
    for name, value in plain.state_dict().items():
        assert torch.equal(lean.state_dict()[name], value), name


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


@pytest.mark.parametrize("name", ["efficientdet_d0", "efficientdet_lite0"])
def test_folded_network_computes_the_same(name: str) -> None:
    exact = create_model(name, num_classes=5).double().eval()
    for norm in (layer for layer in exact.modules() if isinstance(layer, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    for node in (layer for layer in exact.modules() if isinstance(layer, FusionNode)):
        if node.weights is not None:
            nn.init.uniform_(node.weights, -0.5, 2.0)
    images = exact.normalize(pictures(2, 96, 131))
    with torch.no_grad():
        wanted = exact(images)
    fold(exact)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in exact.modules())
    for found, expected in zip(chain(*exact(images)), chain(*wanted), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.extra("runtimes")
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_optimized_detector_detects_the_same(model: EfficientDet) -> None:
    fast = model.optimize(128, runtime="onnxruntime")
    assert fast.run is not None
    for images in (pictures(1, 128, 128), pictures(2, 96, 160)):
        (found, *_), (wanted, *_) = (m.predict(images, max_detections=20) for m in (fast, model))
        torch.testing.assert_close(found.scores, wanted.scores, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.05, rtol=1e-3)
