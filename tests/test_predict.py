"""``tools/predict.py`` as a user runs it."""

import csv
import json
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from started import run_tool

from backbone import create_model as create_classifier
from compound.export.targets import write
from efficientdet import create_model, load_model
from efficientdet.export.detector_program import detector_program

pytestmark = pytest.mark.tool

SIZE = 128


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep").mkdir()
    for name, size in (("12.png", (90, 60)), ("b.jpg", (300, 200)), ("deep/c.png", (64, 64))):
        noise = np.random.default_rng(size[0]).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run's folder with a checkpoint, as far as prediction needs it."""
    torch.manual_seed(0)
    names = ("cat", "dog")
    model = create_model("efficientdet_lite0", num_classes=2, image_size=SIZE, class_names=names)
    torch.nn.init.normal_(model.class_head.predict.pointwise.weight, std=50.0)
    torch.nn.init.normal_(model.class_head.predict.pointwise.bias, -2.0)  # pyright: ignore[reportArgumentType]
    return _run_folder(tmp_path_factory, model, names)


def _run_folder(factory: pytest.TempPathFactory, model: torch.nn.Module, names: object) -> Path:
    run = factory.mktemp("run")
    (run / "checkpoints").mkdir()
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    told = {"model": model.spec.to_dict(), "class_names": list(names)}  # type: ignore[union-attr, call-overload]
    torch.save({"state_dict": state, "hyper_parameters": told}, run / "checkpoints/best.ckpt")
    return run


def predict(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return run_tool("predict.py", folder, *arguments, f"hydra.run.dir={folder / 'run'}")


def test_a_folder_of_pictures(tmp_path: Path, pictures: Path, detector: Path) -> None:
    done = predict(tmp_path, f"weights={detector}", f"source={pictures}", "score_threshold=0.05")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    results = json.loads((run / "predictions.json").read_text())
    rows = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert len(results) == len(rows) > 0
    assert {entry["category"] for entry in results} <= {"cat", "dog"}
    assert {entry["image_id"] for entry in results} <= {1, 2, 3}  # not all are called by numbers
    for entry, row in zip(results, rows, strict=True):
        x, y, w, h = entry["bbox"]
        box = [float(row[key]) for key in ("x0", "y0", "x1", "y1")]
        assert box == pytest.approx([x, y, x + w, y + h], abs=0.011)
        assert row["file"] == entry["file_name"]
    for name in ("12.png", "b.jpg", "deep/c.png"):
        drawn, given = (
            np.asarray(Image.open(path / name)) for path in (run / "pictures", pictures)
        )
        assert drawn.shape == given.shape
        assert not np.array_equal(drawn, given)


def test_what_an_export_has_settled_need_not_be_said(
    tmp_path: Path, pictures: Path, detector: Path
) -> None:
    """Its NMS is inside; only a higher threshold can still be asked for."""
    network = load_model(detector / "checkpoints/best.ckpt")
    settled = {"method": "fast", "nms_iou": 0.6, "score_threshold": 0.4, "max_detections": 7}
    program = tmp_path / "network.pt2"
    write(detector_program(network.eval(), nms=settled), program, "pt2")
    arguments = (f"weights={program}", f"source={pictures / '12.png'}", "draw=false")
    scores = {}
    for name, *given in (("usual",), ("high", "score_threshold=0.6"), ("same", "nms_iou=0.6")):
        run = tmp_path / name
        done = run_tool("predict.py", tmp_path, *arguments, *given, f"hydra.run.dir={run}")
        assert done.returncode == 0, done.stderr
        found = json.loads((run / "predictions.json").read_text())
        scores[name] = [entry["score"] for entry in found]
    (wanted,) = network.predict(pictures / "12.png", **settled)
    assert scores["usual"] == scores["same"] == pytest.approx(wanted.scores.tolist(), abs=1e-5)
    assert scores["high"] == [score for score in scores["usual"] if score >= 0.6] != scores["usual"]
    done = predict(tmp_path, *arguments, "nms_iou=0.3")
    assert done.returncode == 2
    assert "nms_iou=0.3: this file has NMS inside, settled with nms_iou=0.6" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_read_is_skipped_and_told(
    tmp_path: Path, pictures: Path, detector: Path
) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a.jpg").write_bytes(b"nothing")
    (tmp_path / "shots" / "b.png").write_bytes((pictures / "12.png").read_bytes())
    done = predict(tmp_path, f"weights={detector}", f"source={tmp_path / 'shots'}", "draw=false")
    assert done.returncode == 1
    assert "a.jpg cannot be decoded" in done.stdout
    assert "1 pictures, written to" in done.stdout
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "predict.log", "predictions.csv", "predictions.json",
    ]  # fmt: skip


def test_a_video(tmp_path: Path, detector: Path) -> None:
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for i in range(5):
        writer.write(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    done = predict(tmp_path, f"weights={detector}", f"source={clip}", "score_threshold=0.05")
    assert done.returncode == 0, done.stderr
    drawn = cv2.VideoCapture(str(tmp_path / "run" / "clip.mp4"))
    assert int(drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == 5
    assert drawn.get(cv2.CAP_PROP_FPS) == 10.0


def test_classes(tmp_path: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    names = ("a", "b", "c")
    model = create_classifier("efficientnet_lite0", num_classes=3, image_size=64)
    run = _run_folder(tmp_path_factory, model, names)
    done = predict(tmp_path, f"weights={run}", f"source={pictures / '*.png'}", "top=2")
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / "run" / "predictions.json").read_text())
    (wanted,) = model.eval().predict(pictures / "12.png", top=2)
    assert list(entry["classes"]) == [names[label] for label in wanted.labels]
    assert list(entry["classes"].values()) == pytest.approx(wanted.scores.tolist(), abs=1e-5)
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert (tmp_path / "run" / "pictures" / "12.png").is_file()


def test_mistakes(tmp_path: Path, pictures: Path, detector: Path) -> None:
    (tmp_path / "half" / "checkpoints").mkdir(parents=True)
    source = f"source={pictures}"
    for arguments, message in (
        ([f"weights={detector}"], "error: source is not set"),
        ([f"weights={detector}", "source=none.jpg"], "error: source=none.jpg: there is no such"),
        ([f"weights={tmp_path / 'half'}", source], "has no checkpoints/best.ckpt"),
        ([f"weights={detector}", source, "batch_size=0"], "error: batch_size=0: expected"),
        ([f"weights={detector}", source, "method=exact"], "error: method 'exact' is unknown"),
    ):
        done = predict(tmp_path, *arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_numbers_and_places_of_files(tmp_path: Path, detector: Path) -> None:
    """Names that are numbers are ids, and a list's ``..`` does not lead out of the folder."""
    for name in ("a/7.png", "b/30.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / "b" / "list.txt").write_text("../a/7.png\n30.png\n")
    where = (f"source={tmp_path}/b/list.txt", "score_threshold=0.01")
    done = predict(tmp_path, f"weights={detector}", *where)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert {entry["image_id"] for entry in results} == {7, 30}
    drawn = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*.png")}
    assert drawn == {"pictures/a/7.png", "pictures/b/30.png"}
    assert "found: " in done.stdout
