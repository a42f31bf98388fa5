"""Exported classifiers in their own runtimes, against PyTorch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backbone import EfficientNet, create_model, load_exported
from backbone.classification.export import classifier_program
from backbone.classification.exporter import compare
from backbone.classification.predictor import Guesses
from compound.errors import UserError
from compound.export import targets
from compound.export.program import Program
from compound.export.quantize import quantize
from compound.export.runtime import open_program
from compound.export.targets import TARGETS, check_target, write

SIZE = 64
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def model() -> EfficientNet:
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", num_classes=5, image_size=SIZE, class_names=NAMES)
    torch.nn.init.normal_(model.classifier.weight)
    return model.eval()


@pytest.fixture(scope="module")
def exported(model: EfficientNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "lite0.onnx"
    write(classifier_program(model), path, "onnx")
    return path


def pictures(count: int, height: int = SIZE, width: int = SIZE, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(
        0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8
    )


def logits(model: EfficientNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(model.normalize(images))


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def of_any_size(model: EfficientNet) -> Program:
    return classifier_program(model, any_size=True)


@pytest.mark.parametrize(
    "target",
    [
        "pt2",
        pytest.param("onnx", marks=pytest.mark.extra("runtimes")),
        pytest.param("openvino", marks=pytest.mark.extra("runtimes")),
    ],
)
def test_any_size_and_number(
    model: EfficientNet, of_any_size: Program, target: str, tmp_path: Path
) -> None:
    path = tmp_path / f"network{TARGETS[target].suffix}"
    files = write(of_any_size, path, target)
    assert sorted(files) == sorted(tmp_path.iterdir())
    network = load_exported(path)
    for images in (pictures(1), pictures(3), pictures(2, 96, 128)):
        close(network(images), logits(model, images))
    assert (network.class_names, network.spec) == (NAMES, replace(model.spec, image_size=SIZE))


@pytest.mark.extra("runtimes")
def test_predicts_as_the_network_does(model: EfficientNet, exported: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    (wanted,), (found,) = model.predict(photo), load_exported(exported).predict(photo)
    close(found.scores, wanted.scores)
    assert torch.equal(found.labels, wanted.labels)


@pytest.mark.extra("runtimes")
def test_a_fixed_number_of_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grey = create_model("efficientnet_lite0", num_classes=2, in_channels=1).eval()
    path = tmp_path / "grey.onnx"
    write(classifier_program(grey, image_size=SIZE, batch_size=2), path, "onnx")
    network = load_exported(path)
    images = pictures(5, channels=1)  # two batches of two and one that is filled up
    close(network(images), logits(grey, images))
    assert network.spec.image_size == SIZE
    photo = np.full((40, 40, 3), 7, np.uint8)
    wanted = logits(grey, torch.full((1, 1, SIZE, SIZE), 7)).softmax(1)
    (found,) = network.predict(photo)
    close(found.scores, wanted.sort(descending=True).values[0])


def test_sizes_that_any_size_cannot_mean(model: EfficientNet) -> None:
    with pytest.raises(UserError, match=r"image_size=32 x 32: .* multiples of 32 pixels from 64"):
        classifier_program(model, image_size=32, any_size=True)


def test_targets_and_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="target 'onx' is unknown; did you mean onnx"):
        check_target("onx")
    monkeypatch.setattr(targets, "find_spec", lambda name: None if name == "openvino" else name)
    check_target("onnx")
    with pytest.raises(UserError, match=r"writing openvino needs openvino; run `uv sync --extra"):
        check_target("openvino")


@pytest.mark.extra("runtimes")
def test_what_a_target_cannot_compute(
    model: EfficientNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no translation of aten.silu\nand a page of reasons")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(UserError) as told:
        write(classifier_program(model), tmp_path / "network.onnx", "onnx")
    assert str(told.value) == (
        "target=onnx: efficientnet_lite0 cannot be written: "
        "no translation of aten.silu and a page of reasons"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no.onnx", "there is no such file"),
        ("weights.pth", "expected an exported file, .onnx, .pt2, .xml"),
        ("empty.pt2", "cannot be opened"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, told: str) -> None:
    if not name.startswith("no"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=told):
        open_program(tmp_path / name)


@pytest.mark.extra("runtimes")
def test_onnx_files_that_are_none_of_ours(exported: Path, tmp_path: Path) -> None:
    import onnx

    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:999])
    with pytest.raises(UserError, match="cannot be opened"):
        open_program(tmp_path / "cut.onnx")
    foreign = onnx.load(exported)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="was not written by this project"):
        open_program(tmp_path / "foreign.onnx")


@pytest.mark.extra("runtimes")
def test_eight_bits(model: EfficientNet, exported: Path, tmp_path: Path) -> None:
    """The network is integers, the file a third, and most of what it says stays."""
    import onnx

    path = tmp_path / "int8.onnx"
    quantize(exported, path, (image[None].numpy() for image in pictures(8)))
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("QuantizeLinear") > 50
    assert path.stat().st_size < exported.stat().st_size / 2.5
    network = load_exported(path)
    images = pictures(8)
    found, wanted = network(images), logits(model, images)
    assert 0 < (found - wanted).norm() / wanted.norm() < 0.1
    with pytest.raises(UserError, match="no picture to measure the maps on"):
        quantize(exported, tmp_path / "none.onnx", [])
    assert not (tmp_path / "none.onnx").exists()


def test_compared_by_hand() -> None:
    """Class 1 differs by .05 and class 2 by .1 in the second picture, which decides otherwise."""
    same = Guesses(torch.tensor([0.9, 0.1]), torch.tensor([1, 0]))
    wanted = Guesses(torch.tensor([0.5, 0.4, 0.1]), torch.tensor([2, 1, 0]))
    found = Guesses(torch.tensor([0.45, 0.4, 0.15]), torch.tensor([1, 2, 0]))
    difference = compare([same, wanted], [same, found])
    assert difference.probability == pytest.approx(0.1)
    assert difference.top1 == 0.5


@pytest.mark.extra("runtimes")
def test_pictures_that_it_was_not_made_for(model: EfficientNet, exported: Path) -> None:
    network = load_exported(exported)
    with pytest.raises(UserError, match="image_size=64 x 96: this program takes 64 x 64 alone"):
        network(pictures(1, 64, 96))
    for images in (pictures(1).float(), pictures(1)[0], pictures(1, channels=1)):
        with pytest.raises(ValueError, match=r"images: expected \(B, 3, H, W\) uint8"):
            network(images)


def test_swish_and_squeeze_and_excite(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model("efficientnet_b0", num_classes=3, image_size=SIZE).eval()
    write(classifier_program(network), tmp_path / "b0.pt2", "pt2")
    exported = load_exported(tmp_path / "b0.pt2")
    close(exported(pictures(3)), logits(network, pictures(3)))
    assert (exported.class_names, exported.num_classes) == (None, 3)
