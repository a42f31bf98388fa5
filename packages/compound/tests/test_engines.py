"""Engines against PyTorch; those that are not installed are skipped."""

import logging

import pytest
import torch
from torch import Tensor, nn

from backbone import EfficientNet, create_model
from compound.errors import UserError
from compound.export.engines import Runtime, accelerated

SIZE = 64


@pytest.fixture
def model() -> EfficientNet:
    torch.manual_seed(0)
    return create_model("efficientnet_lite0", num_classes=5).eval()


def pictures(batch: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, size, size), generator=generator)


@pytest.mark.parametrize(
    "runtime",
    [
        "eager",
        pytest.param("onnxruntime", marks=pytest.mark.extra("runtimes")),
        pytest.param("openvino", marks=pytest.mark.extra("runtimes")),
    ],
)
@pytest.mark.filterwarnings("error:Exporting a model while it is in training mode")
@pytest.mark.filterwarnings("ignore")  # of exporters
def test_same_logits(model: EfficientNet, runtime: Runtime) -> None:
    fast = model.optimize(SIZE, batch_size=2, runtime=runtime)
    # The second has another size and the third another batch than it was made for.
    for images in (pictures(2, SIZE), pictures(2, 96), pictures(3, SIZE)):
        with torch.no_grad():
            wanted = model(model.normalize(images))
            found = fast(fast.normalize(images))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert fast.runtime == runtime
    # What one does with a module still goes, though it learns no more.
    assert fast.eval().float().state_dict().keys()
    assert repr(fast)
    with pytest.raises(UserError, match="optimized already"):
        fast.optimize(SIZE)
    assert model.run is None  # the original goes on learning
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.extra("runtimes")
@pytest.mark.filterwarnings("ignore")
def test_auto_takes_the_fastest_and_says_so(
    model: EfficientNet, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        model.optimize(SIZE)
    (line,) = (r.getMessage() for r in caplog.records if "is the fastest" in r.getMessage())
    times = dict(part.rsplit(" ", 2)[:2] for part in line.partition("fastest: ")[2].split(", "))
    assert times[line.split()[1]] == min(times.values(), key=float)
    assert {"eager", "onnxruntime"} <= set(times)


def test_what_cannot_run_the_network_is_left_out(
    model: EfficientNet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> bytes:
        raise RuntimeError("no such operator\nand a page of reasons")

    monkeypatch.setattr("compound.export.engines.find_spec", lambda _: True)
    monkeypatch.setattr("compound.export.engines._to_onnx", refuse)
    assert model.optimize(SIZE).runtime == "eager"
    left_out = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert left_out[0] == "runtime onnxruntime is left out: no such operator"
    with pytest.raises(RuntimeError, match="no such operator"):
        model.optimize(SIZE, runtime="onnxruntime")


def test_unknown_and_missing_runtimes(model: EfficientNet, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"runtime 'onnx' is unknown; did you mean onnxruntime"):
        model.optimize(runtime="onnx")  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("compound.export.engines.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"runtime=openvino is not installed; .*--extra runtimes"):
        model.optimize(runtime="openvino")


def test_engine_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(3, 4, 3).eval()
    monkeypatch.setattr("compound.export.engines.find_spec", lambda _: True)
    monkeypatch.setattr("compound.export.engines._to_onnx", lambda network, example: b"")
    monkeypatch.setitem(
        __import__("compound.export.engines", fromlist=["_"])._ENGINES,
        "onnxruntime",
        lambda model: lambda images: (layer(images) * 1.01,),
    )
    with (
        torch.no_grad(),
        pytest.raises(UserError, match=r"onnxruntime: its outputs differ .* by 0\.0"),
    ):
        accelerated(layer, torch.randn(1, 3, 8, 8), "onnxruntime")
