"""``tools/export.py`` as a user runs it."""

import csv
import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from PIL import Image
from started import ROOT, run_tool

import efficientdet
import efficientnetv2
from backbone import EfficientNet, create_model, list_models
from compound.cli import export as tool
from compound.export.targets import TARGETS
from compound.weights import metadata_of, save_weights
from efficientdet.export.exporter import DetectorExporter

SIZE = 64


def export(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return run_tool("export.py", folder, *arguments, f"hydra.run.dir={folder / 'out'}")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier of drawn figures, random, in a file that says what it is."""
    torch.manual_seed(0)
    names = ("circle", "square", "triangle", "star")
    model = create_model("efficientnet_lite0", num_classes=4, image_size=SIZE, class_names=names)
    torch.nn.init.normal_(model.classifier.weight)
    return _saved(model, tmp_path_factory.mktemp("weights") / "figures.safetensors")


def _saved(model: EfficientNet, path: Path) -> Path:
    save_weights(path, model.state_dict(), metadata_of(model))
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pictures of two of the classes."""
    root = tmp_path_factory.mktemp("photos")
    for split in ("train", "val"):
        for name in ("circle", "star"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                Image.effect_noise((80, 70), 30 + 40 * i).convert("RGB").save(folder / f"{i}.png")
    return root


@pytest.mark.extra("runtimes")
@pytest.mark.tool
def test_exports_are_compared_and_predict_the_same(
    tmp_path: Path, weights: Path, photos: Path
) -> None:
    data = ("task=cls", "data=imagefolder", f"data.root={photos}", "pictures=5", "calibration=6")
    done = export(tmp_path, f"weights={weights}", *data, "target=[onnx,openvino,int8]")
    out = tmp_path / "out"
    told = json.loads((out / "export.json").read_text())
    rows = {row["target"]: row for row in told["exports"]}
    assert list(rows) == ["onnx", "openvino", "int8"]
    # Random weights may not bear 8 bits.
    assert done.returncode == (1 if rows["int8"]["failed"] else 0), done.stderr
    assert told["pictures"] == 5
    for target in ("onnx", "openvino"):
        assert not rows[target]["failed"]
        assert 0 <= rows[target]["differences"]["probability"] < 1e-4
        assert rows[target]["top1"] == told["eager"]["top1"]
        assert (out / rows[target]["file"]).is_file()
        assert f"{target} " in done.stdout
    assert (out / "efficientnet_lite0.int8.onnx").is_file() == (not rows["int8"]["failed"])
    assert rows["int8"]["bytes"] < rows["onnx"]["bytes"] / 2
    assert "FAILED" in (out / "report.html").read_text() or not rows["int8"]["failed"]
    assert not [path for path in out.iterdir() if path.is_dir()]

    found = []
    for name in (weights, out / "efficientnet_lite0.onnx", out / "efficientnet_lite0.xml"):
        folder = f"hydra.run.dir={tmp_path / name.suffix}"
        arguments = (f"weights={name}", f"source={photos / 'val'}", "draw=false", folder)
        done = run_tool("predict.py", tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / name.suffix / "predictions.csv").read_text().splitlines()
        found.append([(row["class"], row["probability"]) for row in csv.DictReader(lines)])
    assert found[0] == found[1] == found[2]


def test_every_variant_was_exported_and_compared() -> None:
    """A network with random weights differs as much from itself in 64 bits as from its exports."""
    told = json.loads((ROOT / "benchmarks/results/export_variants.json").read_text())["variants"]
    models = [*efficientdet.list_models(), *efficientnetv2.list_models(), *list_models()]
    assert set(told) == {*models, *(f"{name} nms" for name in efficientdet.list_models())}
    for name, row in told.items():
        for target in ("onnx", "pt2", "openvino"):
            nms = name.endswith(" nms")
            limit = DetectorExporter.limits["score"] if nms else 4 * max(row["rounding"], 1e-6)
            assert row[target]["difference"] <= limit, (name, target)


def test_what_fails_is_named() -> None:
    """A score may differ by .001 in 32 bits and get worse by .01 in 8, rounding apart."""
    detector: Any = DetectorExporter
    row = {"differences": {"score": 2e-3, "box": 0.05}, "mAP": 0.298}

    def failed(target: str, eager: float | None, **changes: Any) -> list[str]:
        return tool._failed({**row, **changes}, TARGETS[target], detector, eager)

    assert failed("onnx", 0.300) == ["score 0.002", "mAP 0.2980 against 0.3000"]
    assert failed("onnx", 0.298, differences={"score": float("nan")}) == ["score nan"]
    assert failed("int8", 0.300) == []
    assert failed("int8", 0.309) == ["mAP 0.2980 against 0.3090"]
    assert failed("int8", 0.200) == []
    assert failed("onnx", None, differences={}) == []


def test_a_lower_score_may_be_the_better_one() -> None:
    class Error(DetectorExporter):
        metric, higher_is_better, fall = "error", False, 0.05

    exporter: Any = Error
    row = {"differences": {}, "error": 0.20}
    assert tool._failed(row, TARGETS["int8"], exporter, 0.10) == ["error 0.2000 against 0.1000"]
    assert tool._failed(row, TARGETS["int8"], exporter, 0.90) == []


@pytest.mark.tool
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["target=[pt2,wasm]"], "target 'wasm' is unknown; accepted: onnx, pt2, openvino, int8"),
        (
            ["target=TensorRT"],
            "target=TensorRT: it reads what target=onnx writes",
        ),
        (
            ["target=pt2", "nms=true", "method=soft"],
            "method=soft: runtimes suppress hard only; give per_class",
        ),
        (["target=pt2", "score_threshold=2"], "score_threshold=2: expected a share in [0, 1]"),
        (["target=pt2", "pictures=0"], "pictures=0: expected a whole number of 1 or more"),
        (["target=pt2", "batch_size=1.5"], "batch_size=1.5: expected a whole number of 1 or more"),
        (
            ["target=pt2", "split=test"],
            "split=test: there is no such split; give split=train or split=val",
        ),
        (["target=pt2", "nms=true"], "nms=true is for detectors; these weights are a classifier's"),
        (["target=[]"], "target=[]: expected onnx"),
        pytest.param(
            ["target=int8", "data=figures", "data.root=null"],
            "give data= and data.root=",
            marks=pytest.mark.extra("runtimes"),
        ),
        pytest.param(
            ["target=int8", "calibration_split=val", "calibration=8"],
            "no picture of val is left",
            marks=pytest.mark.extra("runtimes"),
        ),
        (["target=pt2", "image_size=[64,64]"], "expected the side of a classifier's pictures"),
    ],
)
def test_mistakes(
    tmp_path: Path, weights: Path, photos: Path, arguments: list[str], told: str
) -> None:
    data = ["task=cls", "data=imagefolder", f"data.root={photos}"]
    done = export(tmp_path, f"weights={weights}", *data, *arguments)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.extra("lite", "runtimes")
@pytest.mark.tool
@pytest.mark.real
def test_eight_bits_that_cost_too_much_are_not_kept(tmp_path: Path, compound_data: Path) -> None:
    """A channel that reaches far and counts for nothing leaves 8 bits no room for the others."""
    model = create_model("efficientnet_lite0", weights="package")
    project = model.trunk.stages[-1][-1].project.norm  # pyright: ignore[reportIndexIssue]
    with torch.no_grad():
        project.bias[0] = 1e5
        model.head.conv.weight[:, 0] = 0
    synsets = compound_data / "data/imagenet250/synsets.txt"
    model.class_names = tuple(synsets.read_text().split())
    path = _saved(model, tmp_path / "spoilt.safetensors")
    data = ("task=cls", "data=imagenet", f"data.root={compound_data / 'data/imagenet250'}")
    few = ("pictures=40", "calibration=10", "calibration_split=val", "target=[onnx,int8]")
    done = export(tmp_path, f"weights={path}", *data, *few, "report=false")
    assert done.returncode == 1, done.stderr
    assert "not kept, as they differ from PyTorch: int8" in done.stdout + done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "efficientnet_lite0.onnx", "export.json", "export.log",
    ]  # fmt: skip
