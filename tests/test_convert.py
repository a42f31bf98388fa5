"""Weights go from one project's format to another's and back, bit for bit."""

from pathlib import Path
from typing import Any

import effdet
import numpy as np
import pytest
import timm
import torch
from omegaconf import OmegaConf
from parity import TABLE
from PIL import Image
from started import run_tool
from torch import Tensor, nn

import backbone
import efficientdet
from backbone import EfficientNet
from backbone.weights import read_weights
from backbone.weights.interop import to_official
from compound.cli import convert
from compound.errors import UserError
from compound.weights import read_file
from compound.weights.tensorflow import find_checkpoint, from_torch, read_checkpoint
from efficientdet import EfficientDet
from efficientdet.specs import EFFICIENTDET
from efficientdet.weights import to_official as to_official_detector

ABOUT = {"metrics": None, "license": None}


def randomise(model: Any) -> Any:
    """Make every tensor differ from what a fresh network has."""
    generator = torch.Generator().manual_seed(3)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.95 * ("var" in name))
    return model.eval()


def assert_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert some.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in some.items())


def counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without the counters that TensorFlow has not."""
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def done(folder: Path, *arguments: str) -> str:
    result = run_tool("convert.py", folder, *arguments)
    assert result.returncode == 0, result.stderr
    assert not (folder / "runs").exists()
    return result.stdout


@pytest.mark.tool
def test_effdets_file_becomes_a_folder_and_a_file_again(tmp_path: Path) -> None:
    config = effdet.get_efficientdet_config("tf_efficientdet_d0")
    config.num_classes, config.image_size = 3, (128, 128)
    theirs = randomise(effdet.EfficientDet(config, pretrained_backbone=False))
    torch.save(theirs.state_dict(), tmp_path / "d0.pth")
    told = done(
        tmp_path, "task=det", "model=d0", "weights=d0.pth", "+model.num_classes=3",
        "to=folder", "license=apache-2.0",
    )  # fmt: skip
    assert "written to" in told
    model = EfficientDet.from_pretrained(tmp_path / "folder")
    assert read_file(tmp_path / "folder").metadata["license"] == "apache-2.0"
    assert (model.spec.aspects, model.num_classes, model.image_size) == ("rounded", 3, (512, 512))
    told = done(tmp_path, "weights=folder", "format=effdet", "to=again/d0.pth")
    assert "tell what reads it: mean [123.675" in told
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["d0.pth"]
    state = torch.load(tmp_path / "again/d0.pth", weights_only=True)
    assert_equal(state, theirs.state_dict())
    theirs.load_state_dict(state)
    result = run_tool("convert.py", tmp_path, "task=det", "model=d0", "weights=d0.pth", "to=other")
    assert result.returncode == 2
    assert "class rows of 90 of 90 classes" in result.stderr
    assert "+model.num_classes=<number>" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.tool
@pytest.mark.real
def test_genuine_weights_go_through_a_folder(tmp_path: Path, compound_data: Path) -> None:
    file = compound_data / "weights/efficientdet_lite0.effdet.pth"
    done(tmp_path, "task=det", "model=det_lite0", f"weights={file}", "to=lite0")
    told = read_file(tmp_path / "lite0").metadata
    assert (told["class_names"][17], told["image_size"]) == ("dog", [320, 320])
    done(tmp_path, "weights=lite0", "format=effdet", "to=lite0.pth")
    state = torch.load(tmp_path / "lite0.pth", weights_only=True)
    assert_equal(state, torch.load(file, weights_only=True))


@pytest.mark.tool
def test_timm_takes_our_classifier(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(5)]
    model = backbone.create_model("efficientnet_b0", num_classes=5, class_names=names)
    file = tmp_path / "b0.safetensors"
    about = {"metrics": {"val/top1": 0.5}, "license": "mit"}
    convert._write(randomise(model), file, "timm", about)
    theirs = timm.create_model("tf_efficientnet_b0", num_classes=5, checkpoint_path=str(file))
    assert_equal(theirs.state_dict(), read_file(file).tensors)  # all of them, strictly
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(theirs.eval()(images), model(images), rtol=1e-4, atol=1e-5)
    done(tmp_path, "weights=b0.safetensors", "to=folder")
    again = EfficientNet.from_pretrained(tmp_path / "folder")
    assert_equal(again.state_dict(), model.state_dict())
    assert (again.class_names, again.spec) == (tuple(names), model.spec)
    told = read_file(tmp_path / "folder").metadata
    assert {key: told[key] for key in about} == about


@pytest.mark.extra("tensorflow")
@pytest.mark.parametrize("name", ["efficientdet_d0", "efficientnetv2_b0"])
def test_an_official_checkpoint_is_written_and_read(name: str, tmp_path: Path) -> None:
    import tensorflow

    from efficientnetv2 import create_model

    make: Any = efficientdet.create_model if "det" in name else create_model
    model = randomise(make(name, num_classes=4))
    convert._write(model, tmp_path / "ckpt", "tensorflow", ABOUT)
    prefix = tensorflow.train.latest_checkpoint(str(tmp_path / "ckpt"))
    assert prefix == str(tmp_path / "ckpt/model")
    reader = tensorflow.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    assert shapes.pop("global_step") == []
    plain = {key for key in shapes if not key.endswith("/ExponentialMovingAverage")}
    assert shapes.keys() == plain | {f"{key}/ExponentialMovingAverage" for key in plain}
    for key in plain:
        average = reader.get_tensor(f"{key}/ExponentialMovingAverage")
        assert np.array_equal(reader.get_tensor(key), average), key
    # our own reader, from variables to a network
    found = find_checkpoint(tmp_path / "ckpt")
    assert found is not None
    home = to_official_detector if "det" in name else to_official
    assert_equal(read_checkpoint(found), counted(home(model)))
    again = make(name, num_classes=4, weights=tmp_path / "ckpt")
    assert again.load_report.complete
    assert_equal(counted(again.state_dict()), counted(model.state_dict()))


def listed(file: Path) -> dict[str, tuple[int, ...]]:
    """Return an official list of variables with their shapes."""
    lines = (line.split("\t") for line in file.read_text().splitlines())
    return {
        name: tuple(int(n) for n in shape.strip("[]").split(",") if n.strip())
        for name, shape, *_ in lines
    }


@pytest.mark.real
@pytest.mark.parametrize("name", [*EFFICIENTDET, *TABLE])
def test_official_names_and_shapes(name: str, compound_data: Path) -> None:
    """What is written has exactly the variables of the official code's own checkpoints."""
    file = f"{name.replace('_', '-')}.txt"
    if not name.startswith(("efficientdet", "efficientnetv2")):
        file = f"v1code_{file}"
    with torch.device("meta"):
        model: Any = (
            efficientdet.create_model(name) if "det_" in name else EfficientNet(TABLE[name])
        )
    home = to_official_detector if "det_" in name else to_official
    empty = {key: torch.empty(value.shape) for key, value in home(model).items()}
    written = {key: value.shape for key, value in from_torch(empty).items()}
    assert written == listed(compound_data / "expected/tf/names" / file)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    classifier = backbone.create_model("efficientnet_lite0", num_classes=2)
    symmetric = backbone.create_model(TABLE["efficientnet_b0"], num_classes=2)
    style = {"padding": "symmetric", "bn_eps": 1e-3}  # torchvision's of some
    symmetric.spec = backbone.NetSpec.from_dict(
        symmetric.spec.to_dict() | {"style": symmetric.spec.to_dict()["style"] | style}
    )
    own = backbone.create_model(backbone.scale(-3, name="efficientnet_b0"), num_classes=2)
    lite: Any = {"name": "efficientdet_lite0", "num_classes": 2}
    detector = efficientdet.create_model(**lite)
    v2 = efficientdet.create_model(**lite, backbone="efficientnetv2_b0")
    resnet = efficientdet.create_model(**lite, backbone="timm/resnet10t")
    cases: list[tuple[nn.Module, str, str]] = [
        (classifier, "effdet", "format=effdet is not for task=cls"),
        (detector, "timm", "format=timm is not for task=det"),
        (symmetric, "timm", "timm has no network such as this efficientnet_b0 with padding=symm"),
        (symmetric, "tensorflow", "the official code has no network such as this efficientnet_b0"),
        (own, "timm", "timm has no network such as this efficientnet_b0"),
        (own, "tensorflow", "the official code has no network such as this"),
        (v2, "tensorflow", "backbone=efficientnetv2_b0: official detectors stand on efficientnet_"),
        (resnet, "tensorflow", "backbone=timm/resnet10t: official detectors stand on"),
        (resnet, "effdet", "backbone=timm/resnet10t: only EfficientNets can be written for effdet"),
    ]
    with pytest.raises(UserError, match="weights=None would write a random network"):
        convert._check_whole(classifier, OmegaConf.create({"weights": None}))
    for model, form, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            convert._write(model, tmp_path / "new/file", form, ABOUT)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = backbone.create_model("efficientnet_lite0", num_classes=2)

    def fail(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(convert, "save_weights", fail)
    with pytest.raises(OSError, match="disk full"):
        convert._write(model, tmp_path / "a.safetensors", "safetensors", ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "onnx"}, "format 'onnx' is unknown; "),
        ({"to": None}, "to is not set; give to=<path>, or push=<user>/<name>"),
        ({"to": "there"}, "to=there exists already"),
        ({"format": "effdet", "to": "x.bin"}, "to=x.bin: format=effdet writes a .pth file"),
        ({"format": "timm", "push": "a/b"}, "push=a/b uploads format=pretrained, not timm"),
    ],
)
def test_targets_are_looked_at_first(
    settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    config = {"format": "pretrained", "to": "new", "push": None, **settings}
    with pytest.raises(UserError, match=message):
        convert._target(OmegaConf.create(config))


@pytest.mark.tool
def test_tools_take_a_folder(tmp_path: Path) -> None:
    """Such a folder is no run, and a mistake of the command line takes one line."""
    model = efficientdet.create_model(
        "efficientdet_lite0", num_classes=2, class_names=["cat", "dog"], image_size=64
    )
    model.save_pretrained(tmp_path / "owls")
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(picture)
    found = run_tool(
        "predict.py", tmp_path, "weights=owls", "source=a.png", "score_threshold=0.0001"
    )
    assert found.returncode == 0, found.stderr
    assert "1 pictures, written to" in found.stdout
    result = run_tool("convert.py", tmp_path, "weights=hf-hub:nobody", "to=new")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "error: weights=hf-hub:nobody: 'nobody' is no name on the Hugging Face hub, which are "
        "user/name\n"
    )
    assert not (tmp_path / "new").exists()


def test_read_weights_keeps_the_classes_of_a_timm_file(tmp_path: Path) -> None:
    model = backbone.create_model("efficientnet_lite0", num_classes=2, class_names=["a", "b"])
    convert._write(model, tmp_path / "x.safetensors", "timm", ABOUT)
    weights = read_weights(tmp_path / "x.safetensors", model.spec)
    assert weights.class_names == ("a", "b")
    with pytest.raises(UserError, match="were trained as efficientnet_lite0; they do not fit"):
        read_weights(tmp_path / "x.safetensors", TABLE["efficientnet_b0"])
