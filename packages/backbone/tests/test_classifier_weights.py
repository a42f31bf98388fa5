"""Classifiers take weights from many sources, and say what became of them."""

import builtins
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor

from backbone import EFFICIENTNET, Preprocessing, create_model, load_model, scale
from backbone.weights import download
from compound.errors import UserError
from compound.weights import pretrained, save_weights
from compound.weights.tensorflow import find_checkpoint, read_checkpoint

NAME = "efficientnet_b0"


@pytest.fixture(scope="module")
def timm_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model(f"tf_{NAME}").state_dict()


def write_timm(folder: Path, state: dict[str, Tensor], name: str = "a.pth") -> Path:
    torch.save(state, folder / name)
    return folder / name


def test_own_file_remembers_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    spec = scale(-1, name="small")
    model = create_model(spec, num_classes=2, in_channels=1)
    names = ("cat", "dog")
    metadata = {"model": spec.to_dict(), "class_names": names, "in_channels": 1}
    save_weights(path, model.state_dict(), metadata)
    loaded = load_model(path)
    assert (loaded.spec, loaded.class_names) == (spec, names)
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), model.eval()(images))
    with pytest.raises(UserError, match="were trained as small; they do not fit efficientnet_b0"):
        create_model(NAME, weights=path)


def test_bare_tensors_do_not_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(create_model(NAME, num_classes=2).state_dict(), path)
    with pytest.raises(UserError, match="does not say what classifier it holds"):
        load_model(path)
    create_model(NAME, num_classes=2, weights=path)


def test_rows_are_taken_by_class_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "a.safetensors"
    model = create_model(NAME, num_classes=3)
    metadata = {"model": model.spec.to_dict(), "class_names": ["cat", "dog", "cow"]}
    save_weights(path, model.state_dict(), metadata)
    names = ["cow", "horse", "cat"]
    other = create_model(NAME, num_classes=3, weights=path, class_names=names)
    assert torch.equal(other.classifier.weight[[0, 2]], model.classifier.weight[[2, 0]])
    assert not torch.equal(other.classifier.weight[1], model.classifier.weight[1])
    assert "rows of 1 of 3 classes" in caplog.text
    turned = create_model(NAME, num_classes=2, weights=path, class_names=["dog", "cat"])
    assert torch.equal(turned.classifier.bias, model.classifier.bias[[1, 0]])
    assert turned.load_report is not None
    assert turned.load_report.complete
    same = create_model(NAME, num_classes=3, weights=path)  # nobody said that classes differ
    assert torch.equal(same.classifier.weight, model.classifier.weight)
    assert same.class_names == ("cat", "dog", "cow")


def test_other_classes_leave_the_classifier_random(
    tmp_path: Path, timm_state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = create_model(NAME, num_classes=5, weights=write_timm(tmp_path, timm_state))
    assert torch.equal(model.head.conv.weight, timm_state["conv_head.weight"])
    assert model.classifier.weight.shape == (5, 1280)
    assert "skipped: class rows of 5 of 5 classes, now random" in caplog.text


def test_other_input_channels(tmp_path: Path, timm_state: dict[str, Tensor]) -> None:
    path = write_timm(tmp_path, timm_state)
    kernel = timm_state["conv_stem.weight"]
    grey = create_model(NAME, in_channels=1, weights=path)
    torch.testing.assert_close(grey.trunk.stem.conv.weight, kernel.sum(1, keepdim=True))
    assert create_model(NAME, in_channels=4, weights=path).trunk.stem.conv.weight.shape[1] == 4
    torch.save(grey.state_dict(), tmp_path / "grey.pth")
    with pytest.raises(UserError, match="take 1 input channels and cannot be adapted to 3"):
        create_model(NAME, weights=tmp_path / "grey.pth")


def test_another_architecture_is_refused(tmp_path: Path, timm_state: dict[str, Tensor]) -> None:
    path = write_timm(tmp_path, timm_state)
    for name in ("efficientnet_b1", "efficientnet_b3", "efficientnet_lite0"):
        with pytest.raises(UserError, match=rf"{path} belong to another network: \d+ of \d+"):
            create_model(name, weights=path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="no names of an EfficientNet's tensors are known"):
        create_model(NAME, weights=path)
    cut = {key: value for key, value in timm_state.items() if key != "blocks.1.0.bn2.bias"}
    with pytest.raises(UserError, match=r"trunk\.stages\.1\.0\.depthwise\.norm\.bias is missing"):
        create_model(NAME, weights=write_timm(tmp_path, cut))


def test_headless_weights_are_loaded_and_said(
    tmp_path: Path, timm_state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    trunk = {key: value for key, value in timm_state.items() if "classifier" not in key}
    create_model(NAME, weights=write_timm(tmp_path, trunk))
    assert "missing: classifier.weight, classifier.bias" in caplog.text


def test_preprocessing_travels_with_weights(tmp_path: Path, timm_state: dict[str, Tensor]) -> None:
    # AdvProp's weights take pictures in -1..1; timm's release says so by its file name.
    path = write_timm(tmp_path, timm_state, "tf_efficientnet_b0_ap-f262efe1.pth")
    assert create_model(NAME, weights=path).spec.preprocessing == Preprocessing(
        mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), interpolation="bicubic", crop=0.875
    )
    folder = tmp_path / "models--timm--tf_efficientnet_b0.ap_in1k" / "snapshots"
    folder.mkdir(parents=True)
    path = write_timm(folder, timm_state, "pytorch_model.bin")
    assert create_model(NAME, weights=path).spec.preprocessing.mean == (127.5, 127.5, 127.5)
    theirs = torchvision.models.efficientnet_b1()
    torch.save(theirs.state_dict(), tmp_path / "b1.pth")
    found = create_model("efficientnet_b1", weights=tmp_path / "b1.pth").spec
    # torchvision: IMAGENET1K_V2 of B1 resizes to 255, crops 240, bilinear
    assert found.preprocessing.crop == pytest.approx(240 / 255)
    assert found.preprocessing.interpolation == "bilinear"
    assert found.preprocessing.mean == pytest.approx(Preprocessing().mean)
    assert (found.style.padding, found.style.bn_eps) == ("symmetric", 1e-5)


@pytest.mark.parametrize(
    ("asked", "repository"),
    [
        ("imagenet", "timm/tf_efficientnet_b0.ns_jft_in1k"),
        ("tf_efficientnet_b0.aa_in1k", "timm/tf_efficientnet_b0.aa_in1k"),
    ],
)
def test_imagenet_comes_from_the_hub(
    asked: str,
    repository: str,
    tmp_path: Path,
    timm_state: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_timm(tmp_path, timm_state)
    seen = []
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(pretrained, "get_hf_file_metadata", lambda url: None)
    monkeypatch.setattr(pretrained, "hf_hub_download", lambda *a, **k: seen.append(a) or str(path))
    model = create_model(NAME, weights=asked)
    assert seen == [(repository, "model.safetensors")]
    assert torch.equal(model.head.conv.weight, timm_state["conv_head.weight"])


def test_a_file_may_be_called_like_a_model(
    tmp_path: Path, timm_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("efficientnet_b0.pth", "tf_efficientnet_b0"):
        write_timm(tmp_path, timm_state, name)
        create_model(NAME, weights=name)
    with pytest.raises(UserError, match=r"efficientnet_b1\.pth: there is no such file"):
        create_model(NAME, weights="efficientnet_b1.pth")


def test_checkpoints_of_other_trainers(tmp_path: Path, timm_state: dict[str, Tensor]) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": timm_state, "arch": "tf_efficientnet_b0"}, path)
    wanted = create_model(NAME, weights=path).state_dict()
    assert torch.equal(wanted["trunk.stem.conv.weight"], timm_state["conv_stem.weight"])
    prefixed = {f"model.{key}": value for key, value in timm_state.items()}
    torch.save({"state_dict": prefixed, "hyper_parameters": {"model": "b0"}}, path)
    found = create_model(NAME, weights=path).state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_without_a_network_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(pretrained, "get_hf_file_metadata", refuse)
    with pytest.raises(
        UserError, match=r"tf_efficientnet_b0\.ns_jft_in1k.*HF_HOME.*called tf_efficientnet_b0"
    ):
        create_model(NAME, weights="imagenet")
    with pytest.raises(UserError, match=r"did you mean tf_efficientnet_b0\.a"):
        create_model(NAME, weights="tf_efficientnet_b0.aa_in2k")
    with pytest.raises(UserError, match="there are no public weights of mine"):
        create_model(scale(1, name="mine"), weights="imagenet")


@pytest.mark.extra("lite")
@pytest.mark.parametrize("variant", ["lite0", "lite1", "lite2"])
def test_packages_hold_lite_weights(variant: str) -> None:
    model = create_model(f"efficientnet_{variant}", weights="package")
    assert model.spec == EFFICIENTNET[f"efficientnet_{variant}"]
    # Trained: no statistic is as it was made.
    assert not any((b == 0).all() for n, b in model.named_buffers() if n.endswith("running_mean"))


def test_packages_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="packages exist for efficientnet_lite0, lite1 and lite2"):
        create_model(NAME, weights="package")
    monkeypatch.setattr(download, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="uv sync --extra lite"):
        create_model("efficientnet_lite0", weights="package")


@pytest.mark.extra("lite")
@pytest.mark.real
def test_lite0_gives_the_recorded_probabilities(compound_data: Path) -> None:
    model = create_model("efficientnet_lite0", weights="package").eval()
    with np.load(compound_data / "expected/efficientnet_lite0_probabilities.npz") as recorded:
        images = torch.from_numpy(recorded["x"]).permute(0, 3, 1, 2)
        with torch.no_grad():
            found = model(model.normalize(images)).softmax(1)
        assert np.abs(found.numpy() - recorded["prob"]).max() < 1e-4


def official(value: float) -> dict[str, np.ndarray]:
    """Return two layers of an official checkpoint with what an optimizer leaves there."""
    return {
        "efficientnet-b0/stem/conv2d/kernel": np.full((1, 2, 3, 4), value, np.float32),
        "efficientnet-b0/stem/conv2d/kernel/RMSProp": np.zeros((1, 2, 3, 4), np.float32),
        "efficientnet-b0/blocks_0/depthwise_conv2d/depthwise_kernel": np.zeros((1, 2, 3, 1)),
        "efficientnet-b0/head/dense/kernel": np.arange(6).reshape(2, 3),
        "efficientnet-b0/stem/tpu_batch_normalization/moving_variance": np.full(4, value),
        "global_step": np.array(7),
    }


def test_official_variables(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    variables = official(1.0)
    name = "efficientnet-b0/stem/conv2d/kernel"
    np.savez(path, **variables, **{f"{name}/ExponentialMovingAverage": variables[name] * 2})
    assert find_checkpoint(path) == path
    tensors = read_checkpoint(path)
    assert {key: tuple(value.shape) for key, value in tensors.items()} == {
        "efficientnet-b0/stem/conv2d.weight": (4, 3, 1, 2),
        "efficientnet-b0/blocks_0/depthwise_conv2d.weight": (3, 1, 1, 2),
        "efficientnet-b0/head/dense.weight": (3, 2),
        "efficientnet-b0/stem/tpu_batch_normalization.running_var": (4,),
    }
    assert torch.equal(tensors["efficientnet-b0/head/dense.weight"][1], torch.tensor([1, 4]))
    assert (tensors["efficientnet-b0/stem/conv2d.weight"] == 2).all()


def test_a_checkpoint_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt-350"
    for end in (".index", ".data-00000-of-00001"):
        (tmp_path / f"{prefix.name}{end}").touch()
        assert find_checkpoint(tmp_path / f"{prefix.name}{end}") == prefix
    assert find_checkpoint(prefix) == find_checkpoint(tmp_path) == prefix
    (tmp_path / "other.index").touch()
    with pytest.raises(UserError, match=r"several checkpoints; name one of model\.ckpt-350, other"):
        find_checkpoint(tmp_path)


@pytest.mark.extra("tensorflow")
def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.index").write_bytes(b"not a table")
    with pytest.raises(UserError, match="this checkpoint cannot be read"):
        create_model(NAME, weights=tmp_path)


def test_tensorflow_is_asked_for_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.index").touch()
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tensorflow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="uv sync --extra tensorflow"):
        create_model(NAME, weights=tmp_path / "model")


def test_broken_archive(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(UserError, match="this archive cannot be read"):
        create_model(NAME, weights=tmp_path / "a.npz")


def test_a_name_without_a_file_may_be_the_hubs() -> None:
    for name in ("nobody/nothing", "timm/lite0.ra_in1k"):
        with pytest.raises(UserError, match=rf"no such file.*, or hf-hub:{name} for the hub"):
            create_model(NAME, weights=name)
    with pytest.raises(UserError, match=r"\.pth file$"):
        create_model(NAME, weights="nobody/nothing.pth")


def test_who_reads_other_files_reads_weights(tmp_path: Path) -> None:
    plain, weights = tmp_path / "plain.txt", tmp_path / "own.safetensors"
    plain.touch()
    save_weights(weights, {"a": torch.zeros(1)}, {})
    assert weights.stat().st_mode == plain.stat().st_mode
