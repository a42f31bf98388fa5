"""Sweeps: W&B's files, filled in as its agents do, and Hydra's with its plugins."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from started import run_tool

from compound.cli import help as _help
from compound.cli import launch as _launch
from compound.cli import overrides as _overrides
from compound.errors import UserError

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))


def extremes(parameter: dict[str, Any]) -> list[Any]:
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def started(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Return what an agent runs, by the macros of https://docs.wandb.ai (sweep configuration)."""
    macros = {
        "${env}": ["/usr/bin/env"],
        "${program}": [sweep["program"]],
        "${args_no_hyphens}": [f"{name}={value}" for name, value in values.items()],
    }
    return [part for word in sweep["command"] for part in macros.get(word, [word])]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_an_agent_starts_trainings_that_the_tool_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = yaml.safe_load(path.read_text())
    assert sweep["method"] == "bayes"
    monkeypatch.setenv("WANDB_RUN_ID", "a1b2c3")
    _launch.register_resolvers()
    names = list(sweep["parameters"])
    columns = [extremes(parameter) for parameter in sweep["parameters"].values()]
    for values in itertools.zip_longest(*columns, fillvalue=None):
        row = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        words = started(sweep, row)
        assert words[:4] == ["/usr/bin/env", "uv", "run", "tools/train.py"]
        _overrides.check_overrides("train", words[4:])
        with initialize_config_dir(str(_help.CONFIGS), version_base="1.3"):
            config = compose("train", words[4:], return_hydra_config=True)
        assert config.hydra.run.dir == "runs/sweep/a1b2c3"
        for name, value in row.items():
            found = config
            for part in name.split("."):
                found = found[part]
            assert found == value
    # What the run itself chooses its best checkpoint by.
    assert sweep["metric"] == {"name": config.monitor, "goal": config.callbacks.best.mode + "imize"}


def test_there_are_sweeps() -> None:
    assert [path.stem for path in SWEEPS] == ["cls", "det"]


needs_plugins = pytest.mark.extra("sweep")
TINY = (
    "task=cls", "model=lite0", "model.image_size=32", "data.read.num_train=8",
    "data.read.num_val=4", "data.read.picture_size=64", "data.batch_size=4", "data.num_workers=0",
    "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1",
    "report=false", "logger=csv",
)  # fmt: skip


@pytest.mark.tool
@needs_plugins
def test_optuna_is_told_the_scores(tmp_path: Path) -> None:
    done = run_tool(
        "train.py", tmp_path, *TINY, "sweep=cls", f"hydra.sweep.dir={tmp_path}/sweep",
        "hydra.sweeper.n_trials=2", "task.label_smoothing=0.05",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    best = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    runs = sorted(path.parent for path in tmp_path.glob("sweep/*/config.yaml"))
    assert [run.name for run in runs] == ["0-cls-lite0", "1-cls-lite0"]
    scores, rates = [], []
    for run in runs:
        rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()]
        column = rows[0].index("val/top1")
        scores += [float(row[column]) for row in rows[1:] if row[column]]
        config = OmegaConf.load(run / "config.yaml")
        rates.append(config.optim.lr)
        assert config.task.label_smoothing == 0.05  # the command line fixes a key of the card
        assert (run / "checkpoints" / "best.ckpt").is_file()
        log = (run / "train.log").read_text()
        assert log.count("best val/top1") == log.count(str(run)) == 1  # none of the other's lines
    assert best.best_value == pytest.approx(max(scores))
    highest = [r for r, s in zip(rates, scores, strict=True) if s == max(scores)]
    assert best.best_params["optim.lr"] in highest
    assert set(best.best_params) == {"optim.lr", "optim.weight_decay", "model.dropout"}


@pytest.mark.tool
@needs_plugins
def test_runs_that_joblib_starts_have_workers(tmp_path: Path) -> None:
    done = run_tool(
        "train.py", tmp_path, *TINY, "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}/sweep",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "data.num_workers=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("sweep/*/checkpoints/best.ckpt"))) == 2


@pytest.mark.tool
@needs_plugins
def test_a_run_that_fails_fails_the_sweep(tmp_path: Path) -> None:
    sweep = ("sweep=cls", f"hydra.sweep.dir={tmp_path}/sweep", "hydra.sweeper.n_trials=2")
    done = run_tool("train.py", tmp_path, *TINY, *sweep, "task.label_smoothing=2")
    assert done.returncode == 2, done.stderr
    assert "error: task.label_smoothing=2: expected a share" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "sweep" / "optimization_results.yaml").exists()
    # What was never scored cannot be the best.
    done = run_tool("train.py", tmp_path, *TINY, *sweep, "trainer.limit_val_batches=0")
    assert done.returncode == 2, done.stderr
    assert "error: this run has no score, so a sweep cannot count it" in done.stderr


@pytest.mark.tool
def test_the_others_of_a_sweep_run_though_one_fails(tmp_path: Path) -> None:
    several = ("task.label_smoothing=2,0.1", f"hydra.sweep.dir={tmp_path}/sweep", "-m")
    done = run_tool("train.py", tmp_path, *several, *TINY)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: task.label_smoothing=2: expected") == 1
    assert [path.name for path in (tmp_path / "sweep").glob("*-cls-lite0")] == ["1-cls-lite0"]
    assert (tmp_path / "sweep/1-cls-lite0/checkpoints/best.ckpt").is_file()


@pytest.mark.tool
def test_several_runs_of_several_processes_are_refused(tmp_path: Path) -> None:
    two = ("trainer.devices=2", "trainer.strategy=ddp", "seed=1,2", "-m")
    done = run_tool("train.py", tmp_path, *TINY, *two, f"hydra.sweep.dir={tmp_path}/sweep")
    assert done.returncode == 2
    assert "error: several runs at 2 devices each: give trainer.devices=1" in done.stderr


@needs_plugins
@pytest.mark.parametrize("card", ["det", "cls"])
def test_cards_search_what_the_task_has(card: str) -> None:
    _launch.register_resolvers()
    words = [f"task={card}", f"sweep={card}"]
    with initialize_config_dir(str(_help.CONFIGS), version_base="1.3"):
        config = compose("train", words, return_hydra_config=True)
    assert config.hydra.sweeper.direction == config.callbacks.best.mode + "imize"
    _overrides.check_overrides(
        "train", [*words, *map("=".join, config.hydra.sweeper.params.items())]
    )
    with pytest.raises(UserError, match=r"hydra.sweeper.storage=sqlite:///x.db: Optuna 2 keeps no"):
        _overrides.check_overrides("train", [*words, "hydra.sweeper.storage=sqlite:///x.db"])


@pytest.mark.parametrize(
    "word",
    ["sweep=det", "hydra/sweeper=optuna", "hydra/launcher=joblib", "hydra/launcher=submitit_slurm"],
)
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(_overrides, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=f"{word}: hydra_.* not installed; run `uv sync --extra sw"):
        _overrides.check_overrides("train", [word])
