"""Several looks at a picture give boxes in its own pixels."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from compound.errors import UserError
from efficientdet import create_model
from efficientdet.anchors import make_anchors
from efficientdet.boxes import encode
from efficientdet.postprocess import Detections, postprocess
from efficientdet.tta import detect_augmented
from efficientdet.wbf import fuse

LEVELS = range(3, 5)


class Finder:
    """Stands for a network: it finds the one bright rectangle, to the pixel, as class 2 of 3."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def normalize(self, images: Tensor) -> Tensor:
        return images / 255

    def anchors(self, images: Tensor) -> Tensor:
        return make_anchors((images.shape[-2], images.shape[-1]), LEVELS, scale=4.0)

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        self.seen.append(tuple(images.shape))
        assert 0.9 < images.max() < 1.1  # it gets what `normalize` returns
        anchors = self.anchors(images)
        logits, codes = torch.full((len(images), len(anchors), 3), -20.0), []
        for number, image in enumerate(images):
            y, x = (image[0] > 0.5).nonzero(as_tuple=True)
            box = torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1)).float()
            logits[number, number, 2] = 1.0 + number
            codes.append(encode(box.expand_as(anchors), anchors))
        return self.by_level(images, logits), self.by_level(images, torch.stack(codes))

    def detect(self, images: Tensor, **settings: Any) -> list[Detections]:
        return postprocess(*self(self.normalize(images)), self.anchors(images), **settings)

    def by_level(self, images: Tensor, rows: Tensor) -> list[Tensor]:
        maps, start = [], 0
        for level in LEVELS:
            h, w = (-(-side // 2**level) for side in images.shape[-2:])
            part = rows[:, start : start + h * w * 9].reshape(len(images), h, w, -1)
            maps.append(part.permute(0, 3, 1, 2))
            start += h * w * 9
        return maps


def pictures() -> Tensor:
    """Two black pictures 48 x 80, each with a white rectangle."""
    images = torch.zeros(2, 3, 48, 80, dtype=torch.uint8)
    images[0, :, 8:24, 4:36] = 255
    images[1, :, 16:40, 40:72] = 255
    return images


BOXES = torch.tensor([[4.0, 8, 36, 24], [40, 16, 72, 40]])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [[1.0], [0.5], [2.0, 1.0, 0.5]])
def test_every_look_finds_the_same_boxes(scales: list[float], flip: bool) -> None:
    """A network that sees alike at all sizes: the fusion of its looks is any one of them."""
    model = Finder()
    results = detect_augmented(model.detect, pictures(), flip=flip, scales=scales)
    for image, found in enumerate(results):
        torch.testing.assert_close(found.boxes_xyxy, BOXES[image : image + 1], rtol=0, atol=1e-3)
        torch.testing.assert_close(found.scores, torch.tensor([1.0 + image]).sigmoid())
        assert found.labels.tolist() == [2]
    sizes = [(2, 3, int(48 * s), int(80 * s)) for s in scales for _ in range(1 + flip)]
    assert model.seen == sizes


def test_sides_are_whole_pixels_and_each_has_its_own_factor() -> None:
    images = torch.zeros(1, 3, 50, 70, dtype=torch.uint8)
    images[..., 25:, 35:] = 255
    model = Finder()
    (found,) = detect_augmented(model.detect, images, flip=True, scales=[0.51])
    # 25.5 and 35.7 become 26 (even) and 36
    assert model.seen == [(1, 3, 26, 36)] * 2
    expected = torch.tensor([[35.0, 25, 70, 50]])
    torch.testing.assert_close(found.boxes_xyxy, expected, rtol=0, atol=1e-3)


def test_looks_are_fused_with_the_overlap_asked_for() -> None:
    class Uneven(Finder):
        """In mirrored pictures it finds less of the first rectangle: 32 x 16 becomes 20 x 16."""

        def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            if images[0, 0, 10, 70] > 0:
                images = images.clone()
                images[..., 44:56] = 0
            return super().__call__(images)

    images = pictures()[:1]
    found = {
        iou: detect_augmented(Uneven().detect, images, flip=True, scales=[1.0], fusion_iou=iou)[0]
        for iou in (0.6, 0.65)
    }
    # IoU 320 / 512 = 0.625. Mirrored back it is x 4..24: the mean 4..30; or two of half the score.
    torch.testing.assert_close(found[0.6].boxes_xyxy, torch.tensor([[4.0, 8, 30, 24]]))
    torch.testing.assert_close(found[0.65].scores, torch.tensor([0.365529, 0.365529]))


class Noise(Finder):
    """A network that sees something else in every picture and every mirror."""

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        outputs = []
        for channels, size in ((9 * 3, 2.0), (9 * 4, 0.3)):
            generator, levels = torch.Generator().manual_seed(channels), []
            for stride in (8, 16):
                weight = torch.randn(channels, 3, stride, stride, generator=generator)
                levels.append(F.conv2d(images, weight / stride, stride=stride) * size)
            outputs.append(levels)
        return outputs[0], outputs[1]


def noise_pictures(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 48, 80), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("method", ["per_class", "fast", "soft"])
def test_one_look_is_postprocess_and_its_fusion(method: str) -> None:
    model, images = Noise(), noise_pictures(2)
    settings = {"method": method, "score_threshold": 0.3, "max_detections": 20}
    found = model.detect(images, **settings)
    augmented = detect_augmented(
        partial(model.detect, **settings),
        images,
        flip=False,
        score_threshold=0.3,
        max_detections=20,
    )
    for ours, one in zip(augmented, found, strict=True):
        expected = fuse([one], max_detections=20, score_threshold=0.3)
        assert len(expected.scores) > 10
        assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("scales", [[1.0], [1.0, 2.0]])
def test_mirrored_pictures_give_mirrored_boxes(scales: list[float]) -> None:
    """With the mirrored look the whole is symmetric, whatever the network does."""
    model, images = Noise(), noise_pictures(1)
    (straight,) = detect_augmented(model.detect, images, flip=True, scales=scales)
    (mirrored,) = detect_augmented(model.detect, images.flip(-1), flip=True, scales=scales)
    x0, y0, x1, y1 = mirrored.boxes_xyxy.unbind(1)
    boxes = torch.stack((80 - x1, y0, 80 - x0, y1), 1)
    assert len(boxes) > 50
    assert mirrored.labels.tolist() == straight.labels.tolist()
    torch.testing.assert_close(mirrored.scores, straight.scores)
    torch.testing.assert_close(boxes, straight.boxes_xyxy, rtol=0, atol=1e-3)


def test_a_real_network() -> None:
    torch.manual_seed(0)
    model = create_model("efficientdet_d0", num_classes=2).eval()
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    results = model.predict(images, flip=True, scales=[1.0, 0.75], method="soft")
    assert len(results) == 1
    # A random network calls everything an object with 0.01; the looks agree on some.
    assert 0.002 < results[0].scores.max() <= 0.0101


@pytest.mark.parametrize("scales", [[], [0.0], [1.0, -1.0]])
def test_mistaken_scales_are_told(scales: list[float]) -> None:
    with pytest.raises(UserError, match="scales="):
        detect_augmented(Finder().detect, pictures(), flip=False, scales=scales)
