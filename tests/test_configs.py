"""Every card composes into what the spec tables say, and mistakes are answered."""

from importlib import import_module

import pytest
import timm
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from backbone.specs import EFFICIENTNET
from compound.cli import help as _help
from compound.cli import launch as _launch
from compound.cli import overrides as _overrides
from compound.cli.runs import pictures_of
from compound.errors import UserError
from efficientdet.specs import EFFICIENTDET
from efficientnetv2.specs import EFFICIENTNETV2

TABLE = EFFICIENTDET | EFFICIENTNET | EFFICIENTNETV2

MODELS = sorted(p.stem for p in (_help.CONFIGS / "model").glob("[!_]*.yaml"))


def composed(*overrides: str) -> DictConfig:
    _launch.register_resolvers()
    with initialize_config_dir(str(_help.CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


def card(name: str) -> str:
    """Return what a network's card is called."""
    prefixes = {
        "efficientdet_lite": "det_lite", "efficientdet_": "", "efficientnet_": "",
        "efficientnetv2_": "v2_",
    }  # fmt: skip
    prefix = next(p for p in prefixes if name.startswith(p))
    return prefixes[prefix] + name.removeprefix(prefix)


def test_every_variant_has_a_card() -> None:
    assert sorted(card(name) for name in TABLE) == MODELS


@pytest.mark.parametrize("name", TABLE)
def test_sizes_come_from_the_table(name: str) -> None:
    task = ("task=det", "data=coco") if name in EFFICIENTDET else ("task=cls", "data=imagenet")
    config = composed(*task, f"model={card(name)}", "data.root=x")
    assert config.task.model.name == name
    assert config.task.model.image_size == config.data.image_size == TABLE[name].image_size
    if name not in EFFICIENTDET:
        assert config.task.model.dropout == TABLE[name].dropout
        module = import_module(config.task.model._target_.partition(".")[0])
        assert name in module.list_models()


def test_official_recipe_is_the_default_on_coco() -> None:
    config = composed("task=det", "data=coco", "data.root=x")
    optim = config.task.optim
    assert (optim.optimizer._target_, optim.optimizer.momentum) == ("torch.optim.SGD", 0.9)
    assert (optim.lr, optim.base_batch_size, optim.weight_decay) == (0.08, 64, 4e-5)
    assert (optim.warmup_epochs, optim.decay_biases) == (1, False)
    assert config.task.loss == {
        "alpha": 0.25, "gamma": 1.5, "delta": 0.1, "box_weight": 50.0, "label_smoothing": 0.0,
    }  # fmt: skip
    assert config.data.scale == [0.1, 2.0]
    assert (config.data.crowd, config.data.policy, config.data.grid_mask) == ("skip", None, 0)
    assert (config.data.mosaic, config.data.mixup, config.data.copy_paste) == (0, 0, 0)
    assert (config.trainer.max_epochs, config.trainer.gradient_clip_val) == (300, 10.0)
    assert config.callbacks.ema.decay == 0.9998
    assert config.callbacks.batch_norm.freeze_from == 1.0


@pytest.mark.parametrize(("model", "epochs"), [("d6", 300), ("d7", 600), ("d7x", 600)])
def test_the_largest_train_twice_as_long(model: str, epochs: int) -> None:
    config = composed("task=det", f"model={model}", "data=coco", "data.root=x")
    assert config.trainer.max_epochs == epochs


@pytest.mark.parametrize("backbone", ["efficientnetv2_s", "timm/resnet50"])
def test_a_detector_takes_any_backbone(backbone: str) -> None:
    config = composed("task=det", "model=d0", f"backbone={backbone}", "backbone_weights=imagenet")
    assert config.task.model.backbone == backbone
    assert config.task.model.backbone_weights == "imagenet"


def test_official_recipe_is_the_default_on_imagenet() -> None:
    config = composed("task=cls", "data=imagenet", "data.root=x")
    optim = config.task.optim
    assert optim.optimizer == {
        "_target_": "timm.optim.RMSpropTF", "_partial_": True,
        "alpha": 0.9, "momentum": 0.9, "eps": 1e-3,
    }  # fmt: skip
    assert (optim.lr, optim.base_batch_size, optim.weight_decay) == (0.016, 256, 1e-5)
    assert (optim.warmup_epochs, optim.decay_biases) == (5, True)
    assert optim.schedule._target_ == "compound.training.schedule.warmup_staircase"
    assert (optim.schedule.decay_rate, optim.schedule.decay_epochs) == (0.97, 2.4)
    assert (config.task.label_smoothing, config.task.mixup, config.task.cutmix) == (0.1, 0, 0)
    assert (config.task.model.dropout, config.task.model.survival) == (0.2, 0.8)
    assert (config.trainer.max_epochs, config.trainer.gradient_clip_val) == (350, 0)
    assert config.callbacks.ema.decay == 0.9999
    assert (config.data.scale, config.data.policy) == ([0.08, 1.0], "v0")


def test_official_v2_recipe_is_the_default_of_clsv2() -> None:
    # Official `effnetv2_configs.py`, `hparams.py`, `datasets.py`.
    config = composed("task=clsv2", "model=v2_m", "data=imagefolder", "data.root=x")
    assert (config.data.train_size, config.data.image_size) == (384, 480)
    assert (config.data.policy, config.data.scale) == ("rand-m15-n2-mmax15-p1", [0.05, 1.0])
    assert (config.task.mixup, config.task.cutmix, config.task.model.dropout) == (0.2, 0.2, 0.3)
    assert (config.task.label_smoothing, config.task.model.survival) == (0.1, 0.8)
    optim = config.task.optim
    assert (optim.lr, optim.base_batch_size, optim.weight_decay) == (0.016, 256, 1e-5)
    assert (optim.warmup_epochs, optim.decay_biases) == (5, False)
    assert (optim.schedule.decay_rate, optim.schedule.decay_epochs) == (0.97, 2.4)
    assert (config.trainer.max_epochs, config.trainer.gradient_clip_val) == (350, 0)
    assert config.callbacks.ema.decay == 0.9999
    stages = config.callbacks.progressive
    assert (stages.interpolation, stages.stages, stages.first_magnitude) == ("official", 4, 5)

    paper = ("task=clsv2", "model=v2_m", "recipe.source=paper", "data=imagefolder", "data.root=x")
    config = composed(*paper)  # Table 6
    assert (config.data.train_size, config.data.policy) == (380, "rand-m20-n2-mmax20-p1")
    assert (config.task.mixup, config.task.cutmix, config.task.model.dropout) == (0.2, 0, 0.4)
    assert config.callbacks.progressive.interpolation == "paper"

    for model, size in (("b7", 480), ("v2_b3", 240), ("lite0", 176)):
        config = composed("task=clsv2", f"model={model}", "data=imagefolder", "data.root=x")
        assert (config.data.train_size, config.data.policy) == (size, "v0")
    assert composed("task=clsv2", "progressive=off").callbacks.progressive is None
    assert composed("task=det", "progressive=on").callbacks.progressive.stages == 4
    assert composed("task=cls").callbacks.progressive is None


def test_v2_experiments_hold_the_official_numbers() -> None:
    config = composed("experiment=v2_imagenet21k", "data.root=x")
    assert (config.data.image_size, config.data.train_size, config.data.policy) == (224, 224, None)
    assert (config.trainer.max_epochs, config.optim.lr, config.optim.base_batch_size) == (
        60,
        0.008,
        256,
    )
    assert (config.model.dropout, config.model.survival) == (1e-6, 1.0)
    assert (config.task.label_smoothing, config.optim.warmup_epochs) == (0, 1)
    assert config.callbacks.progressive is None

    config = composed("experiment=v2_imagenet_ft", "data.root=x", "weights=y", "model=v2_l")
    assert (config.data.train_size, config.data.image_size) == (480, 480)
    assert (config.data.scale, config.data.crop, config.data.policy) == (None, None, None)
    assert (config.data.cutout, config.callbacks.ema.decay) == (0.25, 0.9996)
    assert (config.trainer.max_epochs, config.optim.lr, config.model.survival) == (15, 0.0005, 0.8)
    assert (config.task.mixup, config.task.cutmix, config.task.label_smoothing) == (0, 0, 0.1)
    config = composed("experiment=v2_imagenet_ft", "data.root=x", "model=v2_m")
    assert config.task.model.weights == "tf_efficientnetv2_m.in21k"
    assert timm.is_model_pretrained("tf_efficientnetv2_m.in21k")

    config = composed("experiment=v2_transfer")
    assert (config.optim.lr, config.optim.base_batch_size, config.optim.weight_decay) == (
        0.001,
        512,
        0,
    )
    assert config.optim.schedule._target_ == "compound.training.schedule.warmup_cosine"
    pictures = 50_000 * (1 - config.data.read.val_fraction)
    assert 10_000 <= config.trainer.max_epochs * (pictures // 512) < 10_100


def test_experiments_have_the_last_word_but_for_the_command_line() -> None:
    config = composed("experiment=clothing_lite0", "data.root=x")
    assert config.task.model.weights == "package"
    assert (config.trainer.max_epochs, config.optim.layer_decay) == (16, 0.85)
    config = composed("experiment=clothing_lite0", "data.root=x", "weights=a.pth")
    assert config.task.model.weights == "a.pth"


def test_data_set_proposes_and_the_command_line_decides() -> None:
    assert composed().model.image_size < 512
    config = composed("model.image_size=320", "trainer.max_epochs=3")
    assert config.data.image_size == 320
    assert config.trainer.max_epochs == 3


@pytest.mark.parametrize(
    "loggers", ["wandb", "tensorboard", "mlflow", "csv", "none", "[wandb,tensorboard]"]
)
def test_loggers_combine(loggers: str) -> None:
    keys = set(composed(f"logger={loggers}").logger)
    named = set(loggers.strip("[]").split(",")) - {"none"}
    assert keys == (named | {"csv"} if named else set())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=d2"], "key 'modle' is unknown; did you mean model"),
        (["optim.lrr=1"], r"key 'optim.lrr' is unknown; did you mean optim.lr"),
        (["+optim.lr=1"], r"\+optim.lr: this key is there already; leave out the plus"),
        (["model=b0"], "model=b0 does not fit task=det, which takes d0, d1"),
        (["task=cls", "model=d0"], "model=d0 does not fit task=cls, which takes b0, b1"),
        (["task=cls", "data=voc"], "data=voc does not fit task=cls, which takes cifar10"),
        (["task=cls", "backbone=timm/resnet50"], "key 'backbone' is unknown"),
        (["task=cls", "model=lite5"], "model=lite5: did you mean lite"),
        (["data=cocoo"], "data=cocoo: .*did you mean coco"),
        (["logger=[wandb,foo]"], "logger=foo: .*available: csv, mlflow, none, tensorboard, wandb"),
        (["optim.lr=fast"], "optim.lr=fast: expected a number"),
        (["data.read.num_train=true"], "expected a number"),
        (["trainer.deterministic=2"], "expected true or false"),
        (["data.scale=[1"], "the command line cannot be read"),
        (["freeze=stem,head"], r"freeze=stem,head: a list is written in brackets, \[a,b\]"),
        (["det"], "'det' is no setting; settings are written as key=value"),
        (["hydra.foo=1"], "key 'hydra.foo' is unknown"),
        ([f"hydra.run.dir={__file__}/a"], "test_configs.py is no folder that can be written to"),
    ],
)
def test_mistakes_are_answered(arguments: list[str], message: str) -> None:
    _launch.register_resolvers()
    with pytest.raises(UserError, match=message):
        _overrides.check_overrides("train", arguments)


def test_sound_command_lines_pass() -> None:
    _launch.register_resolvers()
    for words in (
        ["task=det", "model=d0,d2", "data=voc", "data.root=/x", "optim=adamw", "optim.lr=1e-3",
         "logger=[csv,tensorboard]", "+trainer.profiler=simple", "hydra.run.dir=out/${now:%Y}",
         "seed=1,2", "-m"],
        ["--cfg", "job", "data=coco", "seed=3"],
    ):  # fmt: skip
        _overrides.check_overrides("train", words)
        with pytest.raises(UserError, match="key 'sede' is unknown"):  # which only this one is
            _overrides.check_overrides("train", [*words, "sede=1"])


def test_an_interruption_is_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="130"), _launch.mistakes_told():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "stopped\n"


def test_drawn_pictures_are_called_so() -> None:
    """Their folder is the cache's, which says nothing."""
    assert pictures_of(composed()) == "drawn figures" == pictures_of(composed("task=cls"))
    assert pictures_of(composed("data=voc", "data.root=/owls")) == "/owls"
