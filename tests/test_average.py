"""``tools/average.py`` on a run's epochs, and on several runs."""

import csv
import json
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from started import run_tool
from torch import nn

import backbone
import efficientdet
from compound.cli import average as tool
from compound.cli.ingredients import common, ingredients
from compound.errors import UserError
from compound.weights import read_file, save_weights

CLASSIFIER = (
    "task=cls",
    "model=lite0",
    "data=figures",
    "data.read.num_train=16",
    "data.read.num_val=7",
    "model.image_size=64",
)
DETECTOR = (
    "task=det",
    "model=det_lite0",
    "data=shapes",
    "data.read.num_train=8",
    "data.read.num_val=3",
    "data.read.picture_size=64",
    "model.image_size=64",
)
COMMON = (
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=1",
    "callbacks.media=null",
    "logger=csv",
    "report=false",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the runs of a classifier, which kept 3 of 4 epochs, and of a detector, which none."""
    folder = tmp_path_factory.mktemp("runs")
    kept = ("callbacks.recent.save_top_k=3", "trainer.max_epochs=4")
    for name, settings in (
        ("cls", (*CLASSIFIER, *kept)),
        ("det", (*DETECTOR, "trainer.max_epochs=1")),
    ):
        places = (f"hydra.run.dir={folder / name}", f"paths.cache_dir={folder / 'cache'}")
        done = run_tool("train.py", folder, *settings, *COMMON, *places)
        assert done.returncode == 0, done.stderr
    return folder


def average(cwd: Path, weights: object, *arguments: str) -> CompletedProcess[str]:
    words = (f"weights={weights}", f"hydra.run.dir={cwd / 'a'}", "trainer.accelerator=cpu")
    return run_tool("average.py", cwd, *words, *arguments)


def outputs(model: nn.Module, side: int = 64) -> list[torch.Tensor]:
    """Return what a network says of a picture of noise."""
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model.eval()(picture)
    return [found] if isinstance(found, torch.Tensor) else [*found[0], *found[1]]


@pytest.mark.tool
def test_a_training_keeps_its_last_epochs_where_it_is_told(folder: Path) -> None:
    names = {path.name for path in (folder / "cls" / "checkpoints").iterdir()}
    epochs = {f"epoch_00{i}.ckpt" for i in (1, 2, 3)}
    assert names == {"best.ckpt", "last.ckpt"} | epochs
    names = {path.name for path in (folder / "det" / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}
    last, kept = (
        read_file(folder / "cls" / "checkpoints" / name).tensors
        for name in ("last.ckpt", "epoch_003.ckpt")
    )
    assert all(torch.equal(value, kept[name]) for name, value in last.items())


@pytest.mark.tool
def test_the_last_epochs_of_a_run(folder: Path, tmp_path: Path) -> None:
    done = average(tmp_path, folder / "cls", "last=3")
    assert done.returncode == 0, done.stderr
    result = tmp_path / "a" / "average.safetensors"
    checkpoints = [folder / "cls" / "checkpoints" / f"epoch_00{i}.ckpt" for i in (1, 2, 3)]
    states = [torch.load(path, weights_only=True)["state_dict"] for path in checkpoints]
    for name, value in read_file(result).tensors.items():
        values = [state[f"model.{name}"] for state in states]
        if name.endswith("num_batches_tracked"):
            assert value == values[0]
        else:
            wanted = np.mean([v.double().numpy() for v in values], axis=0)
            np.testing.assert_array_equal(value.numpy(), wanted.astype(np.float32))

    told = json.loads((tmp_path / "a" / "average.json").read_text())
    assert (told["method"], told["norm_batches"], told["monitor"]) == ("uniform", 0, "val/top1")
    with (folder / "cls" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/top1"]]
    validated = {row["epoch"]: float(row["val/top1"]) for row in rows}
    scores = {Path(entry["weights"]).name: entry["score"] for entry in told["ingredients"]}
    wanted = {f"epoch_00{i}.ckpt": pytest.approx(validated[str(i)], abs=1e-6) for i in (1, 2, 3)}
    assert scores == wanted
    assert told["best_single"] == max(scores.values())
    assert all(entry["taken"] for entry in told["ingredients"])
    gain = told["score"] - told["best_single"]
    word = "better" if gain > 0 else "worse" if gain < 0 else "as good as"
    assert f"the mean is {word}" in done.stdout

    words = (*CLASSIFIER, "report=false", f"hydra.run.dir={tmp_path / 'e'}")
    done = run_tool("evaluate.py", tmp_path, *words, f"weights={result}", "trainer.accelerator=cpu")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert scores["val/top1"] == pytest.approx(told["score"], abs=1e-6)
    cv2.imwrite(str(tmp_path / "p.png"), np.full((64, 64, 3), 99, np.uint8))
    words = (f"weights={result}", "source=p.png", "draw=false", f"hydra.run.dir={tmp_path / 'p'}")
    done = run_tool("predict.py", tmp_path, *words, "device=cpu")
    assert done.returncode == 0, done.stderr
    assert len(outputs(backbone.load_model(result))[0][0]) == 7

    done = average(tmp_path, folder / "cls")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "average.safetensors is there already" in done.stderr


@pytest.mark.tool
def test_one_network_twice_is_it(folder: Path, tmp_path: Path) -> None:
    best = folder / "cls" / "checkpoints" / "best.ckpt"
    done = average(tmp_path, f"[{folder / 'cls'},{best}]")
    assert done.returncode == 0, done.stderr
    assert "the mean is as good as the best single one" in done.stdout
    mean, single = (backbone.load_model(p) for p in (tmp_path / "a" / tool.RESULT, best))
    assert all(map(torch.equal, outputs(mean), outputs(single)))
    assert mean.class_names == single.class_names
    config = OmegaConf.load(tmp_path / "a" / "config.yaml")
    assert config.weights == [str(folder / "cls"), str(best)]


@pytest.mark.tool
def test_a_detectors_greedy_soup(folder: Path, tmp_path: Path) -> None:
    """Of a network and the same one with other heads, which cannot find a thing."""
    best = read_file(folder / "det" / "checkpoints" / "best.ckpt")
    tensors = {
        name: value * 0 - 20 if name == "class_head.predict.pointwise.bias" else value
        for name, value in best.tensors.items()
    }
    save_weights(tmp_path / "blind.safetensors", tensors, best.metadata)
    done = average(
        tmp_path, f"[blind.safetensors,{folder / 'det'}]", "method=greedy", "norm_batches=2",
        "monitor=val/AR100",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "a" / "average.json").read_text())
    found, blind = told["ingredients"]
    assert found["score"] > blind["score"]
    assert (found["taken"], told["monitor"]) == (True, "val/AR100")
    assert told["score"] >= found["score"] == told["best_single"]
    mean = efficientdet.load_model(tmp_path / "a" / tool.RESULT)
    single = efficientdet.load_model(folder / "det" / "checkpoints" / "best.ckpt")
    same = all(map(torch.equal, outputs(mean, 128), outputs(single, 128)))
    assert same == (not blind["taken"])


@pytest.mark.tool
def test_norms_are_estimated(folder: Path, tmp_path: Path) -> None:
    """On all of the 4 batches that there are, each once."""
    checkpoints = [folder / "cls" / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
    done = average(tmp_path, f"[{folder / 'cls'},{checkpoints[1]}]", "norm_batches=100")
    assert done.returncode == 0, done.stderr
    found = read_file(tmp_path / "a" / tool.RESULT).tensors
    one, other = (read_file(path).tensors for path in checkpoints)
    for name, value in found.items():
        mean = (one[name].double() + other[name].double()) / 2
        if name.endswith("num_batches_tracked"):
            assert value == 4
        elif name.endswith(("running_mean", "running_var")):
            assert not torch.equal(value, mean.float())
        else:
            assert torch.equal(value, mean.float())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with networks that do not go with ``a``, and what is none."""
    folder = tmp_path_factory.mktemp("files")
    names = ("cat", "dog")
    for file, name, known in (
        ("a", "efficientnet_lite0", names),
        ("turned", "efficientnet_lite0", names[::-1]),
        ("b0", "efficientnet_b0", names),
    ):
        model = backbone.create_model(name, num_classes=2, class_names=known)
        metadata = {"model": model.spec.to_dict(), "class_names": known, "in_channels": 3}
        save_weights(folder / f"{file}.safetensors", model.state_dict(), metadata)
    content = read_file(folder / "a.safetensors")
    save_weights(folder / "nameless.safetensors", content.tensors, {})
    spec = content.metadata["model"]
    seen = {**spec, "preprocessing": {**spec["preprocessing"], "mean": [1, 2, 3]}}
    save_weights(folder / "seen.safetensors", content.tensors, {**content.metadata, "model": seen})
    few = dict(list(content.tensors.items())[1:])
    save_weights(folder / "few.safetensors", few, content.metadata)
    (folder / "text.ckpt").write_text("no weights")
    return folder


@pytest.mark.tool
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b0.safetensors", "its model.name is efficientnet_b0, not efficientnet_lite0"),
        ("turned.safetensors", r"its class_names is \['dog', 'cat'\], not \['cat', 'dog'\]"),
        ("seen.safetensors", r"its model.preprocessing.mean is \[1, 2, 3\], not \["),
        ("nameless.safetensors", "do not say what network they hold"),
        ("few.safetensors", "is missing"),
        ("text.ckpt", "cannot be read as weights"),
        ("gone.ckpt", "there is no such file"),
    ],
)
def test_what_cannot_be_averaged_is_refused(files: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as told:
        common([files / "a.safetensors", files / name])
    assert name in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.tool
def test_too_few_are_refused(folder: Path, files: Path) -> None:
    for weights, last, said in (
        (folder / "cls", 5, "kept 3 epochs of 5; .*callbacks.recent.save_top_k=5"),
        (folder / "det", None, "kept 0 epochs of 2; .*callbacks.recent.save_top_k=5"),
        (files / "a.safetensors", None, "is no run's folder; .*weights="),
        ([files / "a.safetensors"], None, "takes two networks or more"),
    ):
        with pytest.raises(UserError, match=said):
            ingredients(weights, last)
    names = [path.name for path in ingredients(folder / "cls", 2)]
    assert names == ["epoch_002.ckpt", "epoch_003.ckpt"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": ["a", "b"], "last": 2}, "last= is of one run's epochs"),
        ({"method": "greedi"}, "did you mean greedy"),
        ({"last": 1}, "last=1: expected a whole number of 2 or more"),
        ({"norm_batches": -1}, "norm_batches=-1: expected a whole number of 0 or more"),
        ({"norm_batches": "many"}, "norm_batches=many: expected a whole number"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    sound = {"weights": "a", "last": None, "method": "uniform", "norm_batches": 0}
    paths = {"paths": {"output_dir": str(tmp_path)}}
    tool._check(OmegaConf.create({**paths, **sound}))
    with pytest.raises(UserError, match=said):
        tool._check(OmegaConf.create({**paths, **sound, **changes}))


@pytest.mark.tool
@pytest.mark.parametrize(
    ("weights", "words", "said"),
    [
        ("[cls,det]", (), "det/checkpoints/best.ckpt cannot be averaged with"),
        ("cls", ("monitor=val/mAP",), "monitor 'val/mAP' is unknown"),
        ("[cls", (), "the command line cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, tmp_path: Path, weights: str, words: tuple[str, ...], said: str
) -> None:
    for name in ("cls", "det"):
        (tmp_path / name).symlink_to(folder / name)
    done = average(tmp_path, weights, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert said in done.stderr
    assert not (tmp_path / "a").exists()
