"""``model.predict("cat.jpg")``: the same as by hand, in the picture's own pixels."""

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from efficientdet import Detections, EfficientDet, create_model, predictor
from efficientdet.predictor import detect, in_source


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    torch.manual_seed(0)
    model = create_model("efficientdet_lite0", num_classes=3, image_size=128).eval()
    # Scores that differ, so that the order is no matter of rounding.
    torch.nn.init.normal_(model.class_head.predict.pointwise.weight, std=50.0)
    torch.nn.init.normal_(model.class_head.predict.pointwise.bias, -2.0)  # pyright: ignore[reportArgumentType]
    return model


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def close(found: Detections, wanted: Detections) -> None:
    for ours, by_hand in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, by_hand, atol=1e-4, rtol=1e-4)


def test_a_picture_is_fitted_and_padded(model: EfficientDet) -> None:
    pixels = noise(200, 400)  # factor 128 / 400
    (found,) = model.predict(pixels, score_threshold=0.1)
    seen = np.empty((128, 128, 3), np.uint8)
    seen[:] = model.pad_colour
    seen[:64] = Image.fromarray(pixels).resize((128, 64), Image.Resampling.BILINEAR)
    (wanted,) = model.predict(torch.from_numpy(seen).permute(2, 0, 1)[None], score_threshold=0.1)
    limits = torch.tensor([400.0, 200, 400, 200])
    boxes = torch.minimum((wanted.boxes_xyxy * 400 / 128).clamp(min=0), limits)
    assert len(boxes) > 0
    close(found, wanted._replace(boxes_xyxy=boxes))


def test_pictures_of_every_kind_and_size(model: EfficientDet, tmp_path: Path) -> None:
    first, second = noise(100, 80), noise(300, 500)
    Image.fromarray(first).save(tmp_path / "first.png")
    found = model.predict([tmp_path / "first.png", second, Image.fromarray(first)])
    assert len(found) == 3
    close(found[0], found[2])
    close(found[1], model.predict(second)[0])
    (alone,) = model.predict(str(tmp_path / "first.png"))
    close(found[0], alone)
    together = list(detect(model, [first, second, first], batch_size=2))
    for one, of_batch in zip(found, together, strict=True):
        torch.testing.assert_close(one.scores, of_batch.scores, atol=1e-4, rtol=1e-4)


def test_a_sliver_of_a_picture(model: EfficientDet) -> None:
    (found,) = model.predict(noise(1, 5000))
    assert (found.boxes_xyxy[:, 2:] <= torch.tensor([5000, 1])).all()


def test_boxes_go_back_by_one_factor() -> None:
    found = Detections(torch.tensor([[-1.0, 10, 20, 200]]), torch.ones(1), torch.zeros(1).long())
    # 300 x 400 in 128 x 128: 400 / 128 = 3.125 for both sides, cut off at the picture's edge.
    assert in_source(found, (300, 400), (128, 128)).boxes_xyxy.tolist() == [[0, 31.25, 62.5, 300]]


def test_a_thousand_pictures_are_few_at_a_time(
    model: EfficientDet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight that are decoded ahead, two in the threads, a batch and its successor."""
    alive, most, seen = 0, 0, 0

    def pictures() -> Iterator[np.ndarray]:
        for i in range(1000):
            nonlocal alive, most
            picture = np.full((8, 8, 3), i % 256, np.uint8)
            alive += 1
            most = max(most, alive)
            weakref.finalize(picture, forget)
            yield picture

    def forget() -> None:
        nonlocal alive
        alive -= 1

    def look(images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        nonlocal seen
        seen += len(images)
        maps = [torch.zeros(len(images), 9, 1, 1)] * len(model.spec.levels)
        return [m - 9 for m in maps], [torch.zeros(len(images), 36, 1, 1) for _ in maps]

    monkeypatch.setattr(model, "forward", look)
    found = model.predict(pictures(), batch_size=4, score_threshold=0.5)
    assert (len(found), seen) == (1000, 1000)
    assert most <= 8 + 2 + 2 * 4


def test_pictures_are_decoded_while_the_network_looks(
    model: EfficientDet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network does not end its first look before eight more are decoded."""
    decoded, ready = [], threading.Event()

    def decode(picture: np.ndarray) -> np.ndarray:
        decoded.append(picture)
        if len(decoded) == 9:
            ready.set()
        return picture

    def look(images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        assert ready.wait(20)
        return usual(images)

    usual = model.forward
    monkeypatch.setattr(predictor, "pixels_of", decode)
    monkeypatch.setattr(model, "forward", look)
    assert len(model.predict([noise(20, 20)] * 10)) == 10
