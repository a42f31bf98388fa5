"""``tools/benchmark.py`` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from compound.cli import benchmark
from compound.cli import help as _help
from compound.cli import launch as _launch
from compound.cli import overrides as _overrides
from compound.errors import UserError

ROOT = Path(__file__).parent.parent
TINY = (
    "data.read.num_train=8",
    "data.read.num_val=8",
    "data.read.picture_size=64",
    "data.batch_size=8",
    "data.num_workers=0",
    "device=cpu",
    "rounds=3",
    "warmup=1",
)


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/benchmark.py"), *arguments]
    command += [f"hydra.run.dir={folder / 'run'}", f"paths.cache_dir={folder / 'cache'}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def found(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    done = call(folder, *arguments, *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads((folder / "run/benchmark.json").read_text()), done.stdout


def check(content: dict[str, Any], said: str) -> None:
    for timed in (content["training"], *content["inference"]):
        # Medians of parts and the median of all are not of the same step.
        assert sum(timed["parts"].values()) == pytest.approx(timed["median"], rel=0.3)
        assert timed["median"] <= timed["p90"]
        rate = timed["batch_size"] / timed["median"]
        assert timed["images_per_second"] == pytest.approx(rate)
        assert timed["binds"]["part"] in timed["parts"] or timed["binds"]["part"] == "data"
        assert timed["binds"]["reason"] in " ".join(said.split())
        assert f"{timed['images_per_second']:.1f}" in said
    one, eight = content["inference"]
    assert (one["batch_size"], eight["batch_size"], content["training"]["batch_size"]) == (1, 8, 8)
    assert one["peak_gib"] < eight["peak_gib"] < content["training"]["peak_gib"]
    for part in ("loader", "training", "together"):
        assert content[part]["images_per_second"] > 0
    assert {"torch", "timm"} <= content["versions"].keys()


@pytest.mark.tool
def test_a_detector_is_measured(tmp_path: Path) -> None:
    content, said = found(tmp_path, "model.image_size=128")
    check(content, said)
    assert [content[key] for key in ("task", "model", "data")] == ["det", "d0", "shapes"]
    assert (content["device"].endswith("CPU"), content["precision"]) == (True, "32-true")
    parts = content["training"]["parts"]
    assert list(parts) == ["to device", "forward", "loss", "backward", "optimizer"]
    assert min(parts["forward"], parts["backward"]) > 0
    assert content["clip"] == 10  # as officially
    one = content["inference"][0]
    assert list(one["parts"]) == ["to device", "forward", "post-processing"]
    assert one["image_size"] == [128, 128]
    # Parameters, gradients and LAMB's two averages: at least 4 x 3.8 M x 4 bytes.
    assert content["training"]["peak_gib"] > 4 * 3.8e6 * 4 / 2**30
    assert {path.name for path in tmp_path.iterdir()} == {"run", "cache"}


@pytest.mark.tool
def test_a_classifier_is_measured_as_its_recipe_trains(tmp_path: Path) -> None:
    content, said = found(
        tmp_path, "task=clsv2", "model=v2_b0", "model.image_size=96", "precision=bf16-mixed",
        "task.mixup=0.2", "data.train_size=64",
    )  # fmt: skip
    check(content, said)
    assert content["training"]["image_size"] == [64, 64]
    assert content["inference"][0]["image_size"] == [96, 96]
    assert content["precision"] == "bf16-mixed"


def composed(folder: Path, *overrides: str) -> DictConfig:
    _launch.register_resolvers()
    paths = (f"paths.output_dir={folder}", f"paths.cache_dir={folder}")
    with initialize_config_dir(str(_help.CONFIGS), version_base="1.3"):
        return compose("benchmark", [*TINY, "model.image_size=64", *paths, *overrides])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rounds=0"], "rounds=0: expected a whole number of 1 or more"),
        (["device=cuda"], "device=cuda: PyTorch sees no GPU here; take device=cpu"),
        (["trainer.accelerator=gpu"], "device=gpu: PyTorch sees no GPU here"),
        (["precision=int8"], "precision 'int8' is unknown"),
        (["task.predict.flip=true"], "task.predict.flip=True: only without test-time"),
    ],
)
def test_mistakes_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        benchmark.benchmark(composed(tmp_path, *arguments))


def test_command_lines_of_trainings_are_taken() -> None:
    _launch.register_resolvers()
    _overrides.check_overrides(
        "benchmark",
        ["experiment=clothing_lite0", "data.root=x", "data.batch_size=8", "optim.lr=1e-3",
         "trainer.max_epochs=3", "callbacks.ema.decay=0.9", "freeze=[stem]", "weights=package"],
    )  # fmt: skip
    config = composed(Path("x"), "trainer.precision=bf16-mixed")
    assert (config.trainer.accelerator, config.trainer.precision) == ("cpu", "bf16-mixed")
    with pytest.raises(UserError, match="key 'round' is unknown; did you mean rounds"):
        _overrides.check_overrides("benchmark", ["round=3"])
