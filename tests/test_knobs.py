"""What saves time, as a user runs it: searches before a training, and trainers for a moment."""

import gzip
import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from started import run_tool

from compound.cli import help as _help
from compound.cli import launch as _launch
from compound.cli import overrides as _overrides
from compound.cli import tuning as _tuning
from compound.data.sampler import Draw
from compound.errors import UserError

SMALL = (
    "data.read.num_train=24", "data.read.num_val=4", "data.read.picture_size=64",
    "data.num_workers=0", "trainer.accelerator=cpu", "logger=csv",
)  # fmt: skip
CLASSIFIER = (*SMALL, "task=cls", "model=lite0", "model.image_size=32", "report=false")
DETECTOR = (*SMALL, "task=det", "model=det_lite0", "model.image_size=64", "data.batch_size=4")


def train(folder: Path, *arguments: str, run: str = "run") -> CompletedProcess[str]:
    places = (f"hydra.run.dir={folder / run}", f"paths.cache_dir={folder / 'cache'}")
    return run_tool("train.py", folder, *arguments, *places)


def composed(folder: Path, *overrides: str) -> DictConfig:
    _launch.register_resolvers()
    with initialize_config_dir(str(_help.CONFIGS), version_base="1.3"):
        places = (f"paths.output_dir={folder}", f"paths.cache_dir={folder / 'cache'}")
        return compose("train", [*overrides, *places])


def weights(run: Path) -> dict[str, Any]:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    raw = content["current_model_state"]
    return content["state_dict"] | {f"raw {name}": value for name, value in raw.items()}


@pytest.mark.tool
def test_a_search_leaves_no_trace_but_its_result(tmp_path: Path) -> None:
    # The same eight pictures in every step: a loss that falls for certain, and soon.
    once = (*CLASSIFIER, "overfit=8", "data.batch_size=8", "trainer.max_epochs=2", "freeze=[trunk]")
    found = train(tmp_path, *once, "lr_find=true", run="found")
    assert found.returncode == 0, found.stderr
    config = OmegaConf.load(tmp_path / "found" / "config.yaml")
    assert f"lr_find: optim.lr={config.optim.lr:g}, as " in " ".join(found.stdout.split())
    assert config.task.optim.lr == config.optim.lr != composed(tmp_path, *CLASSIFIER).optim.lr
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names >= {"lr_find.png", "config.yaml", "predictions.csv"}
    assert not [name for name in names if name.startswith(".")]

    done = train(tmp_path, *once, f"optim.lr={config.optim.lr}", run="given")
    assert done.returncode == 0, done.stderr
    first, second = weights(tmp_path / "found"), weights(tmp_path / "given")
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    scores = [(tmp_path / run / "predictions.csv").read_bytes() for run in ("found", "given")]
    assert scores[0] == scores[1]


@pytest.mark.tool
def test_debug_goes_through_all_of_a_run_with_the_batch_that_fits(tmp_path: Path) -> None:
    done = train(tmp_path, *DETECTOR, "trainer=debug", "data.batch_size=auto")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (content["epoch"], content["global_step"]) == (0, 2)
    told = " ".join(done.stdout.split())
    assert f"report: {run / 'report.html'}" in told
    config = OmegaConf.load(run / "config.yaml")
    assert (config.trainer.detect_anomaly, config.trainer.limit_val_batches) == (True, 1)
    # Ten steps of an epoch of 24 pictures have 2 pictures each.
    assert "data.batch_size=2 takes" in told
    assert " GiB; more would leave an epoch fewer than 10 steps" in told
    assert config.data.batch_size == 2


@pytest.mark.tool
def test_a_profile_shows_steps_and_the_wait_for_them(tmp_path: Path) -> None:
    done = train(tmp_path, *CLASSIFIER, "data.batch_size=2", "trainer=profile")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "profile"
    assert f"profile: {folder / 'table.txt'} is a table" in " ".join(done.stdout.split())
    rows = (folder / "table.txt").read_text()
    assert "aten::mkldnn_convolution" in rows
    events = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert names.count("step") == 4
    assert names.count("loading") >= 3


@pytest.mark.tool
def test_what_is_overfitted_is_what_is_scored(tmp_path: Path) -> None:
    short = ("trainer.max_epochs=4", "report=false")
    done = train(tmp_path, *DETECTOR, "trainer=overfit", "overfit=4", *short)
    assert done.returncode == 0, done.stderr
    assert "4 training pictures, not augmented, and scored on the same" in done.stdout
    content = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["global_step"] == 4  # each epoch is one step with all four
    found = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert len({entry["image_id"] for entry in found}) == 4


@pytest.mark.parametrize("arguments", [CLASSIFIER, DETECTOR], ids=["cls", "det"])
def test_overfitting_shows_pictures_as_the_score_sees_them(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    config = composed(tmp_path, *arguments, "trainer=overfit")
    data = instantiate(config.data)
    everything = data.splits["train"]
    data.overfit(config.overfit)
    assert list(data.splits) == ["train", "val"]
    assert data.num_pictures("train") == data.num_pictures("val") == config.overfit == 8
    shown = data.training_set(data.last_stage)
    scored = data.val_dataloader().dataset
    for i in range(8):
        one, other = shown[Draw(i, seed=5, epoch=3)], scored[Draw(i, 0)]
        assert np.array_equal(one.image, other.image)
        if arguments is DETECTOR:
            assert len(one.boxes)
            assert np.array_equal(one.boxes, other.boxes)
    if arguments is DETECTOR:
        kept = np.isin(everything.image_ids, data.splits["val"].image_ids)
        rows = np.repeat(kept, np.diff(everything.offsets))
        assert np.array_equal(data.splits["val"].boxes, everything.boxes[rows])
    else:
        assert len(set(data.splits["val"].labels.tolist())) >= 4
    for wrong in (0, 25, 2.5, "all"):
        with pytest.raises(UserError, match=rf"overfit={wrong}: "):
            instantiate(config.data).overfit(wrong)


@pytest.mark.parametrize("mode", ["overfit", "debug", "profile"])
def test_a_mode_goes_before_experiments_and_the_command_line_before_it(
    tmp_path: Path, mode: str
) -> None:
    card = OmegaConf.load(_help.CONFIGS / f"trainer/last/{mode}.yaml")
    words = ("experiment=bccd_lite0", "data.root=x", f"trainer={mode}")
    config = composed(tmp_path, *words)
    assert config.trainer.max_epochs == card.trainer.max_epochs != 12
    assert config.callbacks.progressive is None
    config = composed(tmp_path, *words, "trainer.max_epochs=12", "trainer.strategy=ddp")
    assert (config.trainer.max_epochs, config.trainer.strategy) == (12, "ddp")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.batch_size=large", "data.batch_size=large: expected a number or auto"),
        ("lr_find=1", "lr_find=1: expected true or false"),
        ("hydra/launcher=loky", "hydra/launcher=loky: .*basic, joblib, submitit_local"),
        ("sweep=seg", "sweep=seg: .*available: cls, det"),
    ],
)
def test_words_are_checked_at_once(word: str, message: str) -> None:
    _overrides.check_overrides("train", ["data.batch_size=auto"])
    with pytest.raises(UserError, match=message):
        _overrides.check_overrides("train", [word])


@pytest.mark.tool
def test_a_training_that_goes_on_finds_nothing_anew(tmp_path: Path) -> None:
    for word in ("data.batch_size=auto", "lr_find=true"):
        assert _tuning.begin(composed(tmp_path, word)) == word.endswith("auto")
        with pytest.raises(UserError, match=f"{word}: a training that goes on keeps"):
            _tuning.begin(composed(tmp_path, word, "ckpt_path=last.ckpt"))
    done = train(tmp_path, "data.batch_size=auto", "ckpt_path=last.ckpt")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
