"""Optimizer, schedule, averaging and trackers."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn

from backbone.errors import UserError
from backbone.train import trackers
from backbone.train.batch_norm import BatchNormSchedule
from backbone.train.ema import Ema
from backbone.train.optim import build_optimizer, clip_each, parameter_groups
from backbone.train.resume import check_resumable
from backbone.train.schedule import warmup_cosine
from backbone.train.trackers import FailSafe


def test_schedule_at_its_corners() -> None:
    def at(step: int) -> float:
        return warmup_cosine(step, total=110, warmup=10)

    assert at(0) == pytest.approx(0.1)
    assert at(5) == pytest.approx(0.55)  # half way from 0.1 to 1
    assert at(10) == pytest.approx(1.0)
    assert at(60) == pytest.approx(0.5)  # cos(pi / 2) = 0
    assert at(35) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert at(110) == pytest.approx(0.0)


def test_only_kernels_decay_and_the_rate_follows_the_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, rest = parameter_groups(model, 0.1)
    assert [p.ndim for p in decayed["params"]] == [4]
    assert len(rest["params"]) == 3  # conv bias, batch norm's weight and bias
    assert rest["weight_decay"] == 0
    optimizer = build_optimizer(
        model, torch.optim.SGD, lr=0.08, base_batch_size=64, batch_size=16, weight_decay=0.1
    )
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)  # 0.08 * 16 / 64


def test_each_gradient_is_clipped_by_itself() -> None:
    long, short = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    long.grad, short.grad = torch.tensor([30.0, 40.0]), torch.tensor([3.0, 4.0])
    clip_each([long, short], 10.0)
    assert torch.allclose(long.grad, torch.tensor([6.0, 8.0]))  # norm 50 -> 10
    assert torch.equal(short.grad, torch.tensor([3.0, 4.0]))  # norm 5 stays


def test_average_starts_fast_and_ends_at_its_decay() -> None:
    average = torch.tensor([1.0])
    ema = Ema(decay=0.9)
    ema._average([average], [torch.tensor([0.0])], 1)
    assert average.item() == pytest.approx(2 / 11)  # decay (1 + 1) / (10 + 1)
    average.fill_(1.0)
    ema._average([average], [torch.tensor([0.0])], 1000)
    assert average.item() == pytest.approx(0.9)  # 1001 / 1010 is more than 0.9
    counter = torch.tensor([3])
    ema._average([counter], [torch.tensor([7])], 1000)
    assert counter.item() == 7


class _Broken(DummyLogger):
    calls = 0

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        self.calls += 1
        raise ConnectionError("no route to host")


def test_a_tracker_that_fails_is_switched_off_once(caplog: pytest.LogCaptureFixture) -> None:
    inner = _Broken()
    tracker = FailSafe(inner)
    tracker.log_metrics({"a": 1.0}, 0)
    tracker.log_metrics({"a": 1.0}, 1)
    assert inner.calls == 1
    assert caplog.text.count("no route to host") == 1


def wandb_mode(monkeypatch: pytest.MonkeyPatch, folder: Path, **environment: str) -> str:
    for variable in ("MODE", "API_KEY", "DATA_DIR", "CACHE_DIR", "SILENT"):
        monkeypatch.delenv(f"WANDB_{variable}", raising=False)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(trackers, "WandbLogger", lambda **arguments: arguments["mode"])
    return str(trackers.wandb_logger(save_dir=str(folder), project="project", name="name"))


def test_wandb_goes_offline_without_a_word_where_nobody_is_logged_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert wandb_mode(monkeypatch, tmp_path) == "offline"
    assert not caplog.text


def test_wandb_goes_offline_where_its_server_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert wandb_mode(monkeypatch, tmp_path, WANDB_API_KEY="0" * 40) == "offline"
    assert caplog.text.count("tracked offline") == 1


def test_wandb_goes_online_for_who_is_logged_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trackers.wandb, "login", lambda *, prompt: not prompt)
    assert wandb_mode(monkeypatch, tmp_path) == "online"
    assert wandb_mode(monkeypatch, tmp_path, WANDB_MODE="disabled") == "disabled"


def batch_norm_after(
    callback: BatchNormSchedule, batches: Tensor, *, trained: bool = False
) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(1, momentum=0.01)
    module: Any = nn.Sequential(norm)
    if trained:
        norm.running_mean.fill_(3.0)
    callback.setup(SimpleNamespace(), module, "fit")
    callback.on_train_start(SimpleNamespace(), module)
    for step, batch in enumerate(batches):
        # Two epochs, two batches accumulated into a step.
        epoch, batch_idx = divmod(step, len(batches) // 2)
        trainer = SimpleNamespace(
            current_epoch=epoch,
            num_training_batches=len(batches) // 2,
            global_step=step // 2,
            estimated_stepping_batches=len(batches) // 2,
        )
        callback.on_train_batch_start(trainer, module, None, batch_idx)
        norm(batch)
    return norm


def test_only_a_trainings_checkpoint_can_be_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    training = {"epoch": 1, "state_dict": {}, "loops": {}, "optimizer_states": []}
    for content, max_epochs, message in (
        (None, 9, "there is no such file"),
        (b"not a checkpoint", 9, "is no checkpoint"),
        ({"epoch": 1, "state_dict": {}}, 9, "no training to go on with"),
        (training, 2, "trained for 2 epochs, which is all of trainer.max_epochs=2"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content:
            torch.save(content, path)
        with pytest.raises(UserError, match=message):
            check_resumable(path, max_epochs=max_epochs)
    check_resumable(path, max_epochs=3)
    check_resumable(path, max_epochs=-1)  # Lightning's word for no end


def test_batch_norm_forgets_its_initial_statistics() -> None:
    batches = torch.randn(60, 8, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.01 + 5
    norm = batch_norm_after(BatchNormSchedule(), batches)
    # The plain mean of the batches' means and (unbiased) variances, nothing of 0 and 1.
    assert norm.running_mean.item() == pytest.approx(batches.mean().item(), rel=1e-5)
    expected = batches.flatten(1).var(1).mean().item()
    assert norm.running_var.item() == pytest.approx(expected, rel=1e-3)


def test_batch_norm_ends_at_the_official_momentum() -> None:
    norm = batch_norm_after(BatchNormSchedule(), torch.zeros(150, 2, 1, 1, 1))
    assert norm.momentum == 0.01
    assert norm.training


def test_batch_norm_freezes_where_it_is_told_to() -> None:
    batches = torch.randn(160, 8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    norm = batch_norm_after(BatchNormSchedule(freeze_from=0.75), batches)
    until_then = batch_norm_after(BatchNormSchedule(), batches[:120])
    assert not norm.training
    assert norm.running_mean.item() == until_then.running_mean.item()
    assert norm.running_var.item() == until_then.running_var.item()


def test_batch_norm_that_came_with_weights_is_not_warmed_up() -> None:
    batches = torch.full((2, 4, 1, 2, 2), 5.0)
    norm = batch_norm_after(BatchNormSchedule(), batches, trained=True)
    assert norm.running_mean.item() == pytest.approx(3.0 * 0.99**2 + 5.0 * (1 - 0.99**2))
    still = batch_norm_after(BatchNormSchedule(freeze_from=0.0), batches, trained=True)
    assert still.running_mean.item() == 3.0


def test_batch_norm_of_a_frozen_layer_is_left_alone() -> None:
    norm = nn.BatchNorm2d(1).eval()
    norm.weight.requires_grad_(False)
    module: Any = nn.Sequential(norm)
    callback = BatchNormSchedule()
    callback.setup(SimpleNamespace(), module, "fit")
    callback.on_train_start(SimpleNamespace(), module)
    trainer: Any = SimpleNamespace(
        current_epoch=0, num_training_batches=10, global_step=0, estimated_stepping_batches=10
    )
    callback.on_train_batch_start(trainer, module, None, 0)
    assert not norm.training
    assert norm.momentum == 0.1
