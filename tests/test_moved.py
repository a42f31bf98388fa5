"""Command lines and run folders of version 0.1 name modules that have moved since."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from compound.cli import launch as _launch
from compound.cli.configs import opened, parse
from compound.cli.moved import MODULES, moved, rename_targets
from compound.cli.overrides import check_overrides
from compound.cli.runs import as_trained, implied

# As version 0.1 wrote it.
OLD = Path(__file__).parent / "old" / "config.yaml"


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "_target_")
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from targets(inner)


def old_config() -> DictConfig:
    config = OmegaConf.load(OLD)
    assert isinstance(config, DictConfig)
    return config


@pytest.mark.parametrize(("old", "new"), MODULES.items())
def test_old_modules_are_gone_and_new_ones_exist(old: str, new: str) -> None:
    assert find_spec(new) is not None
    with suppress(ModuleNotFoundError):  # of the package it was in
        assert find_spec(old) is None


def test_every_name_of_an_old_run_leads_somewhere(caplog: pytest.LogCaptureFixture) -> None:
    config = old_config()
    old = set(targets(OmegaConf.to_container(config)))
    with caplog.at_level(logging.WARNING):
        rename_targets(config, source="runs/old/config.yaml")
    new = set(targets(OmegaConf.to_container(config)))
    assert len(old & new) < len(old) == len(new)
    for name in new:
        assert get_object(name).__name__ == name.rpartition(".")[2]
    (line,) = caplog.messages
    assert line.startswith("runs/old/config.yaml: backbone.train.")
    assert " is now compound.training." in line
    rename_targets(config, source="again")
    assert len(caplog.messages) == 1


def test_old_names_on_the_command_line(caplog: pytest.LogCaptureFixture) -> None:
    words = [
        "task=cls", "data=figures", "optim=adamw",
        "data._target_=backbone.data.module.ClassificationData",
        "optim.schedule._target_=backbone.train.schedule.warmup_constant",
    ]  # fmt: skip
    check_overrides("train", words)
    _launch.register_resolvers()
    line = parse("train", words)
    with opened(line) as configs:
        config = configs.compose(words)
    rename_targets(config, source="configuration")
    assert config.optim.schedule._target_ == "compound.training.schedule.warmup_constant"
    assert config.data._target_ == "backbone.classification.data.datamodule.ClassificationData"
    assert len(caplog.messages) == 1
    assert moved("torch.optim.SGD") == "torch.optim.SGD"


def test_an_old_run_is_evaluated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").touch()
    (run / "config.yaml").write_text(OLD.read_text())
    words = [f"weights={run}"]
    line = parse("evaluate", words)
    assert implied(line) == ["task=cls"]
    assert implied(parse("average", [f"weights=[none.ckpt,{run}]"])) == ["task=cls"]
    assert implied(parse("evaluate", ["task=det", *words])) == []
    assert implied(parse("predict", words)) == []
    _launch.register_resolvers()
    with opened(line) as configs:
        config = configs.compose(["task=cls", *words])
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(config)
    config = as_trained(config)
    assert config.data._target_ == "backbone.classification.data.datamodule.ClassificationData"
    assert config.task.optim.schedule._target_ == "compound.training.schedule.warmup_cosine"
    assert config.task.model.weights == str(run / "checkpoints" / "best.ckpt")
    assert len([line for line in caplog.messages if "is now" in line]) == 1
