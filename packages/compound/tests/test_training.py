"""Optimizer, schedule, averaging and trackers."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from timm.optim import RMSpropTF
from torch import Tensor, nn

from backbone import create_model
from compound.errors import UserError
from compound.stages import Progression, Stage
from compound.tracking import trackers
from compound.tracking.trackers import FailSafe
from compound.training.batch_norm import BatchNormSchedule
from compound.training.ema import Ema
from compound.training.freeze import freeze
from compound.training.optim import OptimRecipe, clip_each, parameter_groups
from compound.training.resume import check_resumable
from compound.training.schedule import warmup_constant, warmup_cosine, warmup_staircase


def test_cosine_at_its_corners() -> None:
    def at(epoch: float) -> float:
        return warmup_cosine(epoch, epochs=11, warmup=1)

    assert at(0) == pytest.approx(0.1)
    assert at(0.5) == pytest.approx(0.55)  # half way from 0.1 to 1
    assert at(1) == pytest.approx(1.0)
    assert at(6) == pytest.approx(0.5)  # cos(pi / 2) = 0
    assert at(3.5) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert at(11) == at(12) == pytest.approx(0.0)


def test_staircase_at_its_corners() -> None:
    def at(epoch: float) -> float:
        return warmup_staircase(epoch, epochs=350, warmup=5)

    assert at(0) == 0.0
    assert at(2.5) == pytest.approx(0.5)
    assert at(5) == pytest.approx(0.97**2)  # floor(5 / 2.4) = 2: counted from the start
    assert at(7.1) == pytest.approx(0.97**2)
    assert at(7.3) == pytest.approx(0.97**3)
    assert at(240) == pytest.approx(0.97**100)


def test_constant_rate_at_its_corners() -> None:
    rates = [warmup_constant(epoch, epochs=15, warmup=1) for epoch in (0, 0.25, 1, 14.9)]
    assert rates == [0, 0.25, 1, 1]


def sgd(**changes: Any) -> OptimRecipe:
    return OptimRecipe(
        torch.optim.SGD,
        **({"lr": 0.08, "base_batch_size": 64, "weight_decay": 0.1, "warmup_epochs": 1} | changes),
    )


def test_what_decays_and_how_the_rate_follows_the_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, rest = parameter_groups(model, 0.1)
    assert [p.ndim for p in decayed["params"]] == [4]
    assert len(rest["params"]) == 3  # conv bias, batch norm's weight and bias
    assert rest["weight_decay"] == 0
    decayed, rest = parameter_groups(model, 0.1, decay_biases=True)
    assert decayed["params"][1] is model[0].bias
    assert len(rest["params"]) == 2
    optimizer = sgd().build(model, batch_size=16)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)  # 0.08 * 16 / 64


def test_earlier_blocks_learn_slower() -> None:
    model = create_model("efficientnet_b0", num_classes=2)
    optimizer = sgd(layer_decay=0.5).build(model, batch_size=64)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))

    def rate(parameter: nn.Parameter) -> float:
        return rates[id(parameter)] / 0.08

    # Stem, 16 blocks, head, classifier.
    assert rate(model.classifier.bias) == 1
    assert rate(model.head.norm.weight) == 0.5
    assert rate(model.trunk.stages[6][0].project.conv.weight) == 0.25
    assert rate(model.trunk.stages[5][3].squeeze_excite.reduce.bias) == 0.125
    assert rate(model.trunk.stem.conv.weight) == pytest.approx(0.5**18)


def test_schedule_counts_the_epochs_of_a_training() -> None:
    optimizer = sgd(schedule=warmup_staircase).build(nn.Linear(2, 2), batch_size=64)
    schedule = sgd(schedule=warmup_staircase).build_schedule(
        optimizer, epochs=50, time=lambda step: step / 10
    )
    rates = []
    for _ in range(60):
        rates.append(optimizer.param_groups[0]["lr"] / 0.08)
        optimizer.step()
        schedule.step()
    # One epoch of warm-up is 10 steps; a stair lasts 24.
    assert rates[5] == pytest.approx(0.5)
    assert rates[23:25] == pytest.approx([1.0, 0.97])
    assert rates[48] == pytest.approx(0.97**2)


@pytest.mark.parametrize(
    "bad", [{"lr": 0.0}, {"base_batch_size": 0}, {"layer_decay": 1.5}, {"weight_decay": -1.0}]
)
def test_recipes_refuse_what_no_training_can_use(bad: dict[str, float]) -> None:
    (name,) = bad
    with pytest.raises(UserError, match=rf"optim\.{name}="):
        sgd(**bad)


def test_rmsprop_is_tensorflows() -> None:
    """Two steps of TF1's RMSProp by hand: epsilon inside the root, mean square from 1, the rate in
    the momentum, coupled decay."""
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = RMSpropTF([weight], lr=0.1, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=0.5)
    value, square, momentum = 2.0, 1.0, 0.0
    for gradient in (3.0, -1.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        gradient += 0.5 * value
        square = 0.9 * square + 0.1 * gradient**2
        momentum = 0.9 * momentum + 0.1 * gradient / math.sqrt(square + 1e-3)
        value -= momentum
        assert weight.item() == pytest.approx(value, rel=1e-5)


def test_frozen_layers_keep_their_weights_and_statistics() -> None:
    model = create_model("efficientnet_b0", num_classes=2)
    freeze(model, ["stem", "stages.0-4", "head"])
    images = torch.randn(4, 3, 32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = sgd(lr=1.0).build(model, batch_size=64)
    model(images).square().sum().backward()
    optimizer.step()
    learns = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in learns} == {"trunk", "classifier"}
    assert {name.split(".")[2] for name in learns if "stages" in name} == {"5", "6"}
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    parts = {".".join(name.split(".")[:3]) for name in moved}
    assert parts == {
        "trunk.stages.5", "trunk.stages.6", "classifier.weight", "classifier.bias"
    }  # fmt: skip
    assert any(name.endswith("running_var") for name in moved)


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["trunk.stem"], {"trunk.stem.conv", "trunk.stem.norm"}),
        (
            ["stages.0.*.depthwise"],
            {"trunk.stages.0.0.depthwise.conv", "trunk.stages.0.0.depthwise.norm"},
        ),
        (["head", "classifier"], {"head.conv", "head.norm", "classifier"}),
    ],
)
def test_patterns_of_frozen_layers(patterns: list[str], frozen: set[str]) -> None:
    model = create_model("efficientnet_b0", num_classes=2)
    freeze(model, patterns)
    found = {name.rpartition(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert found == frozen


def test_mistaken_patterns_are_answered() -> None:
    model = create_model("efficientnet_b0", num_classes=2)
    with pytest.raises(UserError, match=r"freeze=stm fits no layer; there are trunk, trunk\.stem"):
        freeze(model, ["stm"])
    with pytest.raises(UserError, match=r"stages\.7-9 fits no layer"):
        freeze(model, ["stages.7-9"])
    with pytest.raises(UserError, match="nothing is left to learn"):
        freeze(model, ["trunk", "head", "classifier"])


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
    # Two epochs, two batches accumulated into a step.
    in_epoch = len(batches) // 2
    callback.on_train_start(trainer_at(0, in_epoch, accumulated=2, epochs=2), module)
    for number, batch in enumerate(batches):
        trainer = trainer_at(number, in_epoch, accumulated=2, epochs=2)
        callback.on_train_batch_start(trainer, module, None, number % in_epoch)
        norm(batch)
    return norm


def trainer_at(batch: int, in_epoch: int, *, accumulated: int, epochs: int) -> Any:
    """Return what a trainer knows when it takes a batch."""
    loop = SimpleNamespace(total_batch_idx=batch)
    return SimpleNamespace(
        current_epoch=batch // in_epoch,
        num_training_batches=in_epoch,
        accumulate_grad_batches=accumulated,
        estimated_stepping_batches=epochs * math.ceil(in_epoch / accumulated),
        fit_loop=SimpleNamespace(epoch_loop=loop),
    )


def test_only_a_trainings_checkpoint_can_be_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    training = {"epoch": 1, "state_dict": {}, "loops": {}, "optimizer_states": []}
    for content, max_epochs, message in (
        (None, 9, "there is no such file"),
        (b"not a checkpoint", 9, "is no checkpoint"),
        ({"epoch": 1, "state_dict": {}}, 9, "no training to go on with"),
        ([1], 9, "no training to go on with"),
        (training | {"state_dict": {"weight": torch.zeros(2)}}, 9, "is of another network"),
        (training, 2, "trained for 2 epochs, which is all of trainer.max_epochs=2"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content:
            torch.save(content, path)
        with pytest.raises(UserError, match=message):
            check_resumable(path, nn.Identity(), max_epochs=max_epochs)
    check_resumable(path, nn.Identity(), max_epochs=3)
    check_resumable(path, nn.Identity(), max_epochs=-1)  # Lightning's word for no end


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


def test_batch_norm_follows_pictures_that_grew() -> None:
    norm = nn.BatchNorm2d(1, momentum=0.01)
    norm.running_mean.fill_(3.0)  # it came with weights
    module: Any = nn.Sequential(norm)
    callback = BatchNormSchedule()
    callback.setup(SimpleNamespace(), module, "fit")
    progression = Progression((Stage(32), Stage(64)), (0.75, 2.0))
    momenta = []
    for number in range(320):
        trainer = trainer_at(number, 160, accumulated=1, epochs=2)
        trainer.datamodule = SimpleNamespace(progression=progression)
        if number == 0:
            callback.on_train_start(trainer, module)
        callback.on_train_batch_start(trainer, module, None, number % 160)
        momenta.append(norm.momentum)
    # The second stage begins after three quarters of 160 batches.
    assert momenta == [0.01] * 120 + [pytest.approx(0.1)] * 50 + [0.01] * 150


def test_batch_norm_of_a_frozen_layer_is_left_alone() -> None:
    norm = nn.BatchNorm2d(1).eval()
    norm.weight.requires_grad_(False)
    module: Any = nn.Sequential(norm)
    callback = BatchNormSchedule()
    callback.setup(SimpleNamespace(), module, "fit")
    trainer = trainer_at(0, 10, accumulated=1, epochs=1)
    callback.on_train_start(trainer, module)
    callback.on_train_batch_start(trainer, module, None, 0)
    assert not norm.training
    assert norm.momentum == 0.1
