"""Classifiers as folders of the Hugging Face hub, and what weights say of themselves.

No test reaches the hub: what talks to it is replaced, and sockets are closed.
"""

import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import pytorch_lightning as pl
import torch
from huggingface_hub import ModelCard, constants, errors
from pytorch_lightning.callbacks import ModelCheckpoint

from backbone import EfficientNet, create_model, load_model, scale
from compound.errors import UserError
from compound.hub import folder as hub_folder
from compound.tracking.artifacts import log_weights
from compound.weights import metadata_of, pretrained, read_file, save_weights

NAME = "efficientnet_lite0"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def model() -> EfficientNet:
    torch.manual_seed(0)
    return create_model(NAME, num_classes=3, class_names=["cat", "dog", "owl"]).eval()


def assert_equal(ours: EfficientNet, theirs: EfficientNet, channels: int = 3) -> None:
    images = torch.randn(2, channels, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))


def test_what_weights_say() -> None:
    grey = create_model(NAME, num_classes=2, in_channels=1, class_names=["a", "b"], image_size=96)
    told = metadata_of(grey, metrics={"val/top1": 0.5}, license="apache-2.0")
    assert told["model"]["stages"][1]["channels"] == 24
    assert {key: value for key, value in told.items() if key != "model"} == {
        "task": "cls",
        "architecture": "efficientnet_lite0",
        "num_classes": 2,
        "class_names": ["a", "b"],
        "in_channels": 1,
        "image_size": [96, 96],
        # Lite's 127 and 128 of three channels; the short side of 224 + 32 pixels
        "preprocessing": {"mean": [127], "std": [128], "interpolation": "bicubic", "crop": 0.875},
        "metrics": {"val/top1": 0.5},
        "license": "apache-2.0",
    }
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    with pytest.raises(UserError, match="val/top1=nan is no finite number"):
        metadata_of(grey, metrics={"val/top1": float("nan")})
    with pytest.raises(UserError, match="license=My own: expected an identifier"):
        metadata_of(grey, license="My own")


def test_a_folder_loads_to_equal_outputs(model: EfficientNet, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "new" / "owls", metrics={"val/top1": 0.5})
    names = ["README.md", "config.json", "model.safetensors"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert [path.name for path in folder.parent.iterdir()] == ["owls"]
    again = EfficientNet.from_pretrained(folder)
    assert (again.spec, again.class_names) == (model.spec, model.class_names)
    assert not again.training
    assert_equal(again, model)
    for other in (load_model(folder), create_model(NAME, num_classes=3, weights=folder)):
        assert_equal(other.eval(), model)
    told = json.loads((folder / "config.json").read_text())
    assert read_file(folder).metadata == told == metadata_of(model, metrics={"val/top1": 0.5})


def test_networks_without_names_and_of_own_sizes(tmp_path: Path) -> None:
    spec = scale(-1.5, name="efficientnet_small")
    grey = create_model(spec, num_classes=5, in_channels=1, image_size=48).eval()
    again = EfficientNet.from_pretrained(grey.save_pretrained(tmp_path / "grey"))
    assert (again.spec, again.class_names) == (grey.spec, None)
    assert_equal(again, grey, channels=1)
    card = (tmp_path / "grey/README.md").read_text()
    assert "5, by their numbers" in card
    assert "None were measured" in card


def test_the_card_is_filled(model: EfficientNet, tmp_path: Path) -> None:
    folder = model.save_pretrained(
        tmp_path / "owls", metrics={"val/top1": 0.75}, license="apache-2.0", dataset="Owls, 2024"
    )
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == ("apache-2.0", "image-classification")
    (result,) = card.data.eval_results or ()
    assert (result.dataset_name, result.metric_type) == ("Owls, 2024", "accuracy")
    assert (result.metric_name, result.metric_value) == ("val/top1", 0.75)
    for text in ("| network | efficientnet_lite0 |", "| input | 3 x 224 x 224 |", "cat, dog, owl.",
                 'EfficientNet.from_pretrained("owls")', "| val/top1 | 0.7500 |",
                 "A centre square of 0.875 of the short side, scaled to 224 x 224",
                 "minus [127.0, 127.0, 127.0], divided by [128.0, 128.0, 128.0]",
                 "https://arxiv.org/abs/1905.11946"):  # fmt: skip
        assert text in card.text, text
    for gap in ("{{", "}}\n", "None", "[More Information Needed]", "\n\n\n"):
        assert gap not in card.text, gap


def test_what_is_there_is_not_written_over(
    model: EfficientNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="other holds something else already"):
        model.save_pretrained(other)
    with pytest.raises(UserError, match="is a file"):
        model.save_pretrained(other / "config.json")
    assert [file.name for file in other.iterdir()] == ["config.json"]

    folder = model.save_pretrained(tmp_path / "owls")
    before = (folder / "config.json").read_bytes()
    model.save_pretrained(folder, license="mit")  # its own it writes anew
    assert read_file(folder).metadata["license"] == "mit"
    assert (folder / "config.json").read_bytes() != before

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(hub_folder, "card_of", fail)
    for target in (folder, tmp_path / "fresh"):
        with pytest.raises(OSError, match="disk full"):
            model.save_pretrained(target, license="apache-2.0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "owls"]
    assert read_file(folder).metadata["license"] == "mit"


def test_an_optimized_copy_is_refused(model: EfficientNet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="optimized copy; save the one it came from"):
        model.optimize(64, runtime="eager").save_pretrained(tmp_path / "fast")
    assert not list(tmp_path.iterdir())


def test_names_that_are_nothing(tmp_path: Path) -> None:
    for name, message in (
        ("missing", "no such folder, nor is this a name on the Hugging Face hub"),
        ("a/b/c", "no such folder"),
        ("a//b", "no such folder"),
        (tmp_path, "holds no model.safetensors; give a folder by save_pretrained"),
    ):
        with pytest.raises(UserError, match=message):
            EfficientNet.from_pretrained(name)
    with pytest.raises(UserError, match="'a b/c' is no name on the Hugging Face hub"):
        create_model(NAME, weights="hf-hub:a b/c")


@pytest.fixture
def cache(model: EfficientNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of the hub's with ``someone/owls``, as a download leaves it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub/models--someone--owls"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs/main").write_text("c0ffee")
    return model.save_pretrained(kept / "snapshots/c0ffee")


@pytest.mark.parametrize("offline", [True, False])
def test_the_cache_serves_without_a_network(
    cache: Path,
    model: EfficientNet,
    offline: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    assert_equal(EfficientNet.from_pretrained("someone/owls"), model)
    assert "cannot be reached; taken from the cache" in caplog.text
    weights = "hf-hub:someone/owls"
    assert_equal(create_model(NAME, num_classes=3, weights=weights).eval(), model)
    for absent in ("someone/cats", "someone/owls@v2"):
        with pytest.raises(UserError, match=f"{absent}: it is not in the cache and the"):
            EfficientNet.from_pretrained(absent)


def hub_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    request = httpx.Request("HEAD", "https://huggingface.co/someone/owls")
    return kind("told by the hub", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub_error(errors.GatedRepoError, 403), "is gated; ask for access at https://"),
        (hub_error(errors.RepositoryNotFoundError, 401), "no such repository, or it is private"),
        (hub_error(errors.RevisionNotFoundError, 404), "has no revision 'v2'"),
        (hub_error(errors.RemoteEntryNotFoundError, 404), "holds no model.safetensors"),
    ],
)
def test_what_the_hub_refuses_is_told(
    error: Exception, message: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-in for the hub's answer; its word counts for more than an old copy in the cache."""

    def refuse(url: str) -> None:
        assert url.endswith("/someone/owls/resolve/v2/model.safetensors")
        raise error

    monkeypatch.setattr(pretrained, "get_hf_file_metadata", refuse)
    with pytest.raises(UserError, match=message) as caught:
        EfficientNet.from_pretrained("someone/owls@v2")
    assert "\n" not in str(caught.value)


def test_upload(model: EfficientNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for `HfApi` keeps what the hub would be given."""
    calls: dict[str, Any] = {}

    class Hub:
        def __init__(self, token: str | None) -> None:
            calls["token"] = token

        def create_repo(self, repo_id: str, **rest: Any) -> str:
            if repo_id.startswith("foreign/"):
                raise hub_error(errors.HfHubHTTPError, 403)
            calls["repository"] = (repo_id, rest)
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            calls["message"] = commit_message
            shutil.copytree(folder_path, tmp_path / repo_id)

    monkeypatch.setattr(hub_folder, "HfApi", Hub)
    about: dict[str, Any] = {"metrics": {"val/top1": 0.5}, "license": "mit"}
    url = model.push_to_hub("someone/owls", private=True, token="secret", **about)
    assert url == "https://huggingface.co/someone/owls"
    assert calls == {
        "token": "secret",
        "repository": ("someone/owls", {"private": True, "exist_ok": True}),
        "message": "Upload efficientnet_lite0",
    }
    uploaded = tmp_path / "someone/owls"
    assert_equal(EfficientNet.from_pretrained(uploaded), model)
    card = ModelCard.load(uploaded / "README.md")
    assert card.data.model_name == "someone/owls"
    assert 'from_pretrained("someone/owls")' in card.text
    with pytest.raises(
        UserError, match=r"foreign/owls could not be uploaded: .*HF_TOKEN"
    ) as caught:
        model.push_to_hub("foreign/owls")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="'owls' is no name on the Hugging Face hub"):
        model.push_to_hub("owls")


class Falling(pl.LightningModule):
    """Scores 0.75, then 0.5, then 0.25."""

    def __init__(self) -> None:
        super().__init__()
        self.model = create_model(scale(-3), num_classes=2, class_names=["a", "b"])
        told = {"model": self.model.spec.to_dict(), "class_names": ["a", "b"]}
        self.save_hyperparameters(told, logger=False)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.model.classifier.weight.square().sum() + 0 * batch.sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("val/top1", 0.75 - 0.25 * self.current_epoch, batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(torch.zeros(2))  # pyright: ignore[reportArgumentType]

    val_dataloader = train_dataloader


@pytest.mark.train
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_runs_best_score_travels(tmp_path: Path, epochs: int) -> None:
    folder = {"dirpath": tmp_path, "enable_version_counter": False}
    saved = [
        ModelCheckpoint(filename="best", monitor="val/top1", mode="max", **folder),
        ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **folder),
    ]
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=saved, logger=False, accelerator="cpu", log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Falling())
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    assert read_file(best).metadata["metrics"] == {"val/top1": 0.75}
    # It carries the same state of the callback, but another epoch's weights.
    assert read_file(last).metadata.get("metrics") is None

    logged = []
    run = SimpleNamespace(id="0", log_artifact=lambda _, aliases: logged.append(aliases))
    logger: Any = SimpleNamespace(experiment=run)
    log_weights(logger, {"best": best, "last": last}, {})
    written = {name: read_file(tmp_path / f"{name}.safetensors").metadata.get("metrics")
               for name in ("best", "last")}  # fmt: skip
    if epochs == 1:  # one network, one version
        assert logged == [["best", "last"]]
        assert written == {"best": {"val/top1": 0.75}, "last": {"val/top1": 0.75}}
    else:
        assert logged == [["best"], ["last"]]
        assert written == {"best": {"val/top1": 0.75}, "last": None}


def test_old_files_go_on_loading(model: EfficientNet, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_weights(
        path, model.state_dict(), {"model": model.spec.to_dict(), "class_names": ["a", "b", "c"]}
    )
    again = load_model(path).eval()
    assert again.class_names == ("a", "b", "c")
    assert_equal(again, model)
