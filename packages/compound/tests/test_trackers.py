"""Which trackers there are, what a failure of theirs costs, and which run goes on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import DummyLogger

from compound.errors import UserError
from compound.tracking import trackers
from compound.tracking.trackers import (
    FailSafe,
    attempt,
    is_tracked,
    mlflow_logger,
    stored_run,
    wandb_logger,
)


def trainer_with(*loggers: Any, first: bool = True) -> Any:
    return SimpleNamespace(loggers=list(loggers), is_global_zero=first)


def fail(_: object) -> None:
    raise ConnectionError("no route to host")


def test_only_trackers_of_the_kind_are_asked(tmp_path: Path) -> None:
    csv, dummy = FailSafe(CSVLogger(tmp_path)), FailSafe(DummyLogger())
    trainer = trainer_with(csv, dummy, CSVLogger(tmp_path))  # the last is not made safe
    asked: list[object] = []
    attempt(trainer, CSVLogger, asked.append)
    assert asked == [csv.inner]
    assert is_tracked(trainer, CSVLogger)
    assert not is_tracked(trainer_with(dummy), CSVLogger)
    assert not is_tracked(trainer_with(csv, first=False), CSVLogger)


def test_what_fails_costs_the_tracker_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    csv, dummy = FailSafe(CSVLogger(tmp_path)), FailSafe(DummyLogger())
    trainer = trainer_with(csv, dummy)
    # Pictures and tables that fail leave the scalars alone.
    attempt(trainer, CSVLogger, fail)
    assert (csv.failed, dummy.failed) == (False, False)
    assert caplog.text.count("CSVLogger could not be given everything: no route to host") == 1
    csv.attempt(lambda: fail(csv.inner))
    assert (csv.failed, dummy.failed) == (True, False)
    assert caplog.text.count("CSVLogger failed and is off for the rest of this run") == 1
    asked: list[object] = []
    attempt(trainer, CSVLogger, asked.append)
    assert asked == []
    assert not is_tracked(trainer, CSVLogger)
    assert is_tracked(trainer, DummyLogger)


def run_asked_for(monkeypatch: pytest.MonkeyPatch, folder: Path, **environment: str) -> Any:
    """Return how W&B would be begun to go on from a checkpoint of the run `before`."""
    for variable in ("RUN_ID", "SWEEP_ID"):
        monkeypatch.delenv(f"WANDB_{variable}", raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(trackers, "WandbLogger", lambda **arguments: arguments)
    torch.save({"epoch": 0, trackers.WANDB_RUN: "before"}, folder / "a.ckpt")
    places = {"save_dir": str(folder), "project": "p", "name": "n", "mode": "offline"}
    return wandb_logger(**places, resume_from=str(folder / "a.ckpt"))


def test_a_resumed_training_goes_on_in_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = run_asked_for(monkeypatch, tmp_path)
    assert (asked["id"], asked["name"]) == ("before", "n")


def test_a_sweeps_agent_says_which_run_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = run_asked_for(monkeypatch, tmp_path, WANDB_RUN_ID="new", WANDB_SWEEP_ID="s")
    assert (asked["id"], asked["name"]) == (None, None)  # W&B reads the environment itself


def test_a_checkpoint_without_a_run_begins_one(tmp_path: Path) -> None:
    torch.save({"epoch": 0}, tmp_path / "a.ckpt")
    assert stored_run(tmp_path / "a.ckpt") is None
    assert stored_run(None) is None


def test_mlflow_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("Requirement 'mlflow>=1.0.0' not met")

    monkeypatch.setattr(trackers, "MLFlowLogger", missing)
    with pytest.raises(UserError, match="run `uv sync --extra mlflow`"):
        mlflow_logger(tracking_uri=f"sqlite:///{tmp_path}/a/b.db", experiment="e", name="n")
    monkeypatch.setattr(trackers.rank_zero_only, "rank", 1, raising=False)
    logger = mlflow_logger(tracking_uri="sqlite:////nowhere/b.db", experiment="e", name="n")
    assert isinstance(logger, DummyLogger)


@pytest.mark.extra("mlflow")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # MLflow's own
def test_mlflow_keeps_scalars_and_configuration_in_one_file(tmp_path: Path) -> None:
    import mlflow

    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    logger = FailSafe(mlflow_logger(tracking_uri=uri, experiment="e", name="n"))
    logger.log_hyperparams({"optim": {"lr": 0.1}, "text": "x" * 9000})
    logger.log_metrics({"val/mAP": 0.25}, 3)
    logger.log_metrics({"val/mAP": float("nan")}, 4)
    logger.finalize("success")
    assert not logger.failed
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert run.data.params["optim/lr"] == "0.1"
    history = client.get_metric_history(run.info.run_id, "val/mAP")
    assert (history[0].value, history[0].step) == (0.25, 3)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "n")
