"""Weights load completely, or not at all and with a message that names the file."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from compound.errors import UserError
from compound.weights import check_fit, read_file


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def load(model: nn.Module, path: Path) -> None:
    tensors = read_file(path).tensors
    assert check_fit(model.state_dict(), tensors, source=path) == ()
    model.load_state_dict(tensors)


def write(path: Path, state: dict[str, Tensor]) -> None:
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".ckpt":
        prefixed = {f"model.{key}": value for key, value in state.items()}
        average = {f"average.{key}": torch.zeros_like(value) for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict": prefixed | average}, path)
    else:
        torch.save(state, path)


def assert_refused(path: Path, *words: str) -> None:
    """Loading fails with a message of the file and ``words``, and leaves the network alone."""
    model = network(seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load(model, path)
    for word in (str(path), *words):
        assert word in str(caught.value)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.ckpt"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    state = network(seed=0).state_dict()
    write(tmp_path / name, state)
    model = network(seed=1)
    assert not torch.equal(model.state_dict()["0.weight"], state["0.weight"])
    load(model, tmp_path / name)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.ckpt"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.95])
def test_truncated_file(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    write(path, network().state_dict())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert_refused(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent.pth", "no such file")
    assert_refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        {0: torch.zeros(1)},
        [torch.zeros(1)],
        torch.zeros(1),
        {},
        {"state_dict": {}},
        {"state_dict": {"weight": torch.zeros(1)}},
        {"state_dict": [torch.zeros(1)]},
        {"state_dict": {0: torch.zeros(1)}},
        {"state_dict": {"model.a": 1}},
    ],
    ids=str,
)
def test_foreign_content(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth")


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class MakesFolder:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(trace),)

    torch.save({"0.weight": MakesFolder()}, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth", "holds more than tensors")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.ckpt"])
def test_misfits_are_named(tmp_path: Path, name: str) -> None:
    state = network(seed=0).state_dict()
    write(tmp_path / name, {key: value for key, value in state.items() if key != "1.weight"})
    assert_refused(tmp_path / name, "1.weight is missing")
    write(tmp_path / name, state | {"2.weight": torch.zeros(1)})
    assert_refused(tmp_path / name, "2.weight is unknown")
    write(tmp_path / name, state | {"1.bias": torch.zeros(5)})
    assert_refused(tmp_path / name, "1.bias is (5,), not (4,)")


def test_what_may_be_missing_is_told(tmp_path: Path) -> None:
    state = network(seed=0).state_dict()
    del state["0.bias"], state["1.num_batches_tracked"]
    own = network().state_dict()
    assert check_fit(own, state, source="x", optional=("0.",)) == ("0.bias",)
    with pytest.raises(UserError, match=r"weights=x .* 0\.bias is missing"):
        check_fit(own, state, source="x")
