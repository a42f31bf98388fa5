"""``tools/doctor.py`` as a user runs it, and what ``tools/train.py`` says of its data."""

import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
import yaml
from started import run_tool

pytestmark = pytest.mark.tool

TINY = (
    "data.read.num_train=8",
    "data.read.num_val=3",
    "data.read.picture_size=64",
    "model.image_size=64",
    "data.batch_size=4",
    "data.num_workers=0",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(tool: str, folder: Path, *arguments: str) -> CompletedProcess[str]:
    return run_tool(tool, folder, *arguments, f"hydra.run.dir={folder / 'run'}")


def test_detection_data_and_the_anchors_for_it(tmp_path: Path, cache: Path) -> None:
    words = (*TINY, f"paths.cache_dir={cache}")
    done = run("doctor.py", tmp_path, *words, "generations=20", "samples=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: 0 errors" in done.stdout
    folder = tmp_path / "run"
    assert {"doctor.json", "doctor.html", "anchors.yaml"} <= {p.name for p in folder.iterdir()}
    page = (folder / "doctor.html").read_text()
    assert page.partition(">Augmented</h2>")[2].count("<img") == 2
    told = json.loads((folder / "doctor.json").read_text())
    assert told["passed"] is True
    assert told["pictures"] == {"train": 8, "val": 3}
    assert told["truth_ap"] == {"val": 1.0}
    after, before = (told["coverage"]["train"][key]["all"] for key in ("proposed", "present"))
    assert after["recall"] + after["mean_iou"] >= before["recall"] + before["mean_iou"]
    # The proposal's own command line trains with it.
    text = (folder / "anchors.yaml").read_text()
    (line,) = (line for line in text.splitlines() if "command line: " in line)
    anchors = line.partition("command line: ")[2].replace("'", "").split()
    shutil.rmtree(folder)
    rest = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=csv")
    done = run("train.py", tmp_path, *words, *anchors, *rest)
    assert done.returncode == 0, done.stderr
    assert "at first sight; tools/doctor.py looks closer" in done.stdout
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    spec = content["hyper_parameters"]["model"]
    for key, value in yaml.safe_load(text)["model"].items():
        assert (list(spec[key]) if isinstance(value, list) else spec[key]) == value


def test_a_broken_picture_fails_and_is_named(tmp_path: Path, cache: Path) -> None:
    words = (*TINY, f"paths.cache_dir={tmp_path}", "generations=0", "samples=2")
    assert run("doctor.py", tmp_path, *words).returncode == 0
    shutil.rmtree(tmp_path / "run")
    broken = sorted(tmp_path.glob("shapes-*/train2017/*"))[2]
    broken.write_bytes(broken.read_bytes()[:200])
    done = run("doctor.py", tmp_path, *words)
    assert done.returncode == 1
    assert f"    {broken} cannot be decoded" in done.stdout
    assert "failed: 1 error" in done.stdout
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "doctor.json").read_text())["passed"] is False
    assert (tmp_path / "run" / "doctor.html").is_file()


def test_classification_data(tmp_path: Path) -> None:
    words = ("task=cls", "data.read.num_train=20", "data.read.num_val=8", "data.num_workers=0")
    done = run("doctor.py", tmp_path, *words, "samples=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: 0 errors" in done.stdout
    told = json.loads((tmp_path / "run" / "doctor.json").read_text())
    assert told["pictures"] == {"train": 20, "val": 8}


def test_mistakes_end_in_one_line_and_exit_code_2(tmp_path: Path, cache: Path) -> None:
    tiny = [*TINY, f"paths.cache_dir={cache}"]
    for arguments, message in (
        (["data=coco", "data.root=/nowhere"], "error: data.root=/nowhere"),
        (["pictures=none"], "error: pictures=none: expected a whole number of 1 or more"),
        (
            ["model.aspects=[1,2]", *tiny],
            "error: model.aspects=[1, 2]: expected exact, rounded or three",
        ),
    ):
        done = run("doctor.py", tmp_path, *arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(message), done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.real
def test_blood_cells(tmp_path: Path, compound_data: Path) -> None:
    where = ("data=voc", f"data.root={compound_data / 'data' / 'bccd'}", "data.read.test=test")
    done = run("doctor.py", tmp_path, *where, "generations=0", "pictures=20", "samples=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "zero-size boxes dropped" in done.stdout
    assert ".xml, object " in done.stdout
