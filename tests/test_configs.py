"""Every card composes into what the spec tables say, and mistakes are answered."""

import _launch
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from backbone.errors import UserError
from efficientdet.specs import EFFICIENTDET

MODELS = sorted(p.stem for p in (_launch.CONFIGS / "model").glob("[!_]*.yaml"))


def composed(*overrides: str) -> DictConfig:
    _launch.register_resolvers()
    with initialize_config_dir(str(_launch.CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


def test_every_variant_has_a_card() -> None:
    assert sorted(name.removeprefix("efficientdet_") for name in EFFICIENTDET) == MODELS


@pytest.mark.parametrize("model", MODELS)
def test_sizes_come_from_the_table(model: str) -> None:
    config = composed("task=det", f"model={model}", "data=coco", "data.root=x")
    spec = EFFICIENTDET[config.task.model.name]
    assert config.task.model.image_size == config.data.image_size == spec.image_size


def test_official_recipe_is_the_default_on_coco() -> None:
    config = composed("task=det", "data=coco", "data.root=x")
    assert config.task.optimizer._target_ == "torch.optim.SGD"
    assert (config.task.lr, config.task.base_batch_size) == (0.08, 64)
    assert (config.task.weight_decay, config.task.optimizer.momentum) == (4e-5, 0.9)
    assert config.task.loss == {"alpha": 0.25, "gamma": 1.5, "delta": 0.1, "box_weight": 50.0}
    assert config.data.scale == [0.1, 2.0]
    assert (config.trainer.max_epochs, config.trainer.gradient_clip_val) == (300, 10.0)
    assert config.callbacks.ema.decay == 0.9998


def test_data_set_proposes_and_the_command_line_decides() -> None:
    assert composed().model.image_size < 512
    config = composed("model.image_size=320", "trainer.max_epochs=3")
    assert config.data.image_size == 320
    assert config.trainer.max_epochs == 3


@pytest.mark.parametrize("loggers", ["wandb", "tensorboard", "csv", "none", "[wandb,tensorboard]"])
def test_loggers_combine(loggers: str) -> None:
    keys = set(composed(f"logger={loggers}").logger)
    named = set(loggers.strip("[]").split(",")) - {"none"}
    assert keys == (named | {"csv"} if named else set())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=d2"], "key 'modle' is unknown; did you mean model"),
        (["optim.lrr=1"], r"key 'optim.lrr' is unknown; did you mean optim.lr"),
        (["model=b0"], "model=b0: .*did you mean d0"),
        (["data=cocoo"], "data=cocoo: .*did you mean coco"),
        (["logger=[wandb,foo]"], "logger=foo: .*available: csv, none, tensorboard, wandb"),
        (["optim.lr=fast"], "optim.lr=fast: expected a number"),
        (["data.read.num_train=true"], "expected a number"),
        (["trainer.deterministic=2"], "expected true or false"),
        (["data.scale=[1"], "the command line cannot be read"),
        (["det"], "'det' is no setting; settings are written as key=value"),
        (["hydra.foo=1"], "key 'hydra.foo' is unknown"),
    ],
)
def test_mistakes_are_answered(arguments: list[str], message: str) -> None:
    _launch.register_resolvers()
    with pytest.raises(UserError, match=message):
        _launch.check_overrides("train", arguments)


def test_sound_command_lines_pass() -> None:
    _launch.register_resolvers()
    _launch.check_overrides(
        "train",
        ["task=det", "model=d0,d2", "data=voc", "data.root=/x", "optim=adamw", "optim.lr=1e-3",
         "logger=[csv,tensorboard]", "+trainer.profiler=simple", "hydra.run.dir=/y", "seed=1,2"],
    )  # fmt: skip
    _launch.check_overrides("train", ["--cfg", "job", "data=coco,voc", "seed=3"])
