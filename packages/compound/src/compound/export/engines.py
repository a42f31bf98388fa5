"""What runs a network that no longer learns: PyTorch, compiled or not, or another engine.

An engine is made for one shape of input; batches of any other shape go through PyTorch as it is.
"""

import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compound.errors import UserError, closest
from compound.export.folding import fold

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from openvino import Model

log = logging.getLogger(__name__)

Runtime = Literal["auto", "eager", "compile", "onnxruntime", "openvino"]
Outputs = tuple[Tensor, ...]
Run = Callable[[Tensor], Outputs]

# Largest difference to PyTorch's outputs, relative to the largest, that is due to rounding alone; a
# GPU's convolutions round their inputs to 10 bits by default.
TOLERANCE, GPU_TOLERANCE = 1e-3, 2e-2
# An engine reads what these two write.
_EXPORTERS = ("onnx", "onnxscript")
_ROUNDS = 5


class Servable(Protocol):
    """A network of this project."""

    run: Run | None
    runtime: str | None

    def normalize(self, images: Tensor) -> Tensor:
        """Turn pictures in 0..255 into the network's input."""
        ...


Network = TypeVar("Network", bound=Servable)


def optimized(model: Network, shape: Sequence[int], runtime: Runtime) -> Network:
    """Return a copy for inference: norms folded, channels-last, run by what is fastest.

    Args:
        model: the network, which stays as it is.
        shape: ``(B, C, H, W)`` of the batches to come; others are computed too, only not as fast.
        runtime: see `accelerated`.

    Raises:
        UserError: it is such a copy already, or there is no such engine here.
    """
    if model.run is not None:
        raise UserError("this network is optimized already; optimize the one it came from")
    network: Any = deepcopy(model)
    fold(network)
    network.to(memory_format=torch.channels_last)
    device = next(network.parameters()).device
    # Patches as large as things in pictures: noise would not be what the network knows.
    patches = torch.randint(0, 256, (*shape[:2], 5, 5), device=device).float()
    pictures = F.interpolate(patches, tuple(shape[2:]))
    example = network.normalize(pictures).contiguous(memory_format=torch.channels_last)
    fast = copy(network)  # shares the layers
    fast.runtime, fast.run = accelerated(network, example, runtime)
    return fast


def accelerated(network: nn.Module, example: Tensor, runtime: Runtime = "auto") -> tuple[str, Run]:
    """Return what computes ``network(images)`` soonest for batches of the example's shape.

    ``auto`` measures PyTorch as it is and each engine that is installed (extra ``runtimes``), and
    on a GPU the compiled network; compiling for a CPU takes a minute and wins nothing over the
    engines, so it is done by name alone. What cannot run this network is left out, and told.

    Args:
        network: takes ``(B, C, H, W)``, returns a tensor or tuples of tensors; in evaluation mode.
        example: a batch on the network's device.
        runtime: the engine.

    Returns:
        The engine's name and the function; it gives the tensors in one flat tuple.

    Raises:
        UserError: there is no such engine, it is not installed, or it computes something else.
    """
    closest(runtime, get_args(Runtime), what="runtime")
    flat = _Flat(network).eval()  # exporters look at the outermost module
    if runtime != "auto":
        if runtime in _ENGINES and example.is_cuda:
            raise UserError(f"runtime={runtime} is for the CPU; a GPU has eager and compile")
        if runtime in _ENGINES and not _installed(runtime):
            raise UserError(f"runtime={runtime} is not installed; run `uv sync --extra runtimes`")
        return runtime, _made(runtime, flat, example)
    runs = {"eager": _made("eager", flat, example)}
    for name in ["compile"] if example.is_cuda else filter(_installed, _ENGINES):
        try:
            runs[name] = _made(name, flat, example)
        except Exception as error:  # whatever an exporter or a compiler thinks of the network
            log.warning("runtime %s is left out: %s", name, str(error).partition("\n")[0])
    medians = milliseconds(runs, example)
    best = min(medians, key=lambda name: medians[name])
    told = ", ".join(f"{name} {taken:.1f} ms" for name, taken in medians.items())
    log.info("runtime %s is the fastest: %s", best, told)
    return best, runs[best]


def _installed(engine: str) -> bool:
    return all(find_spec(package) for package in (engine, *_EXPORTERS))


class _Flat(nn.Module):
    """A network that gives its tensors in one tuple."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Outputs:
        """Return every tensor of the network's outputs, in order."""
        return tuple(leaves(self.network(images)))


def leaves(outputs: Any) -> Iterator[Tensor]:
    """Yield every tensor of a network's outputs, in order."""
    if isinstance(outputs, Tensor):
        yield outputs
    else:
        for part in outputs:
            yield from leaves(part)


def _made(name: str, network: nn.Module, example: Tensor) -> Run:
    if name == "eager":
        # Not the module itself: as a part of the network it would contain what contains it.
        return lambda images: network(images)
    fast = _compiled(network) if name == "compile" else _ENGINES[name](_to_onnx(network, example))

    def run(images: Tensor) -> Outputs:
        made_for = (example.shape, example.dtype, example.device)
        if (images.shape, images.dtype, images.device) != made_for:
            return network(images)
        with torch.no_grad():
            return fast(images)

    with torch.no_grad():
        difference = _difference(run(example), network(example))
    if not difference < (GPU_TOLERANCE if example.is_cuda else TOLERANCE):
        raise UserError(
            f"runtime={name}: its outputs differ from PyTorch's by {difference:.1g} of the largest"
        )
    return run


def _difference(found: Outputs, wanted: Outputs) -> float:
    apart = max(float((x - y).abs().max()) for x, y in zip(found, wanted, strict=True))
    return apart / max(float(y.abs().max()) for y in wanted)


def milliseconds(
    runs: Mapping[str, Run], images: Tensor, *, rounds: int = _ROUNDS
) -> dict[str, float]:
    """Return the median time that each takes for a batch, measured in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for _ in range(rounds):
            for name, run in runs.items():
                began = time.perf_counter()
                run(images)
                if images.is_cuda:
                    torch.cuda.synchronize()
                times[name].append(time.perf_counter() - began)
    return {name: 1000 * median(taken) for name, taken in times.items()}


def _compiled(network: nn.Module) -> Run:
    """Return the network compiled with its weights as constants, on a GPU as CUDA graphs."""
    cuda = next(network.parameters()).is_cuda
    options: dict[str, Any] = {"freezing": True, "triton.cudagraphs": cuda}
    compiled: Any = torch.compile(network, dynamic=False, options=options)
    # The next call of a CUDA graph writes over the outputs of this one.
    return lambda images: tuple(output.clone() for output in compiled(images))


def _to_onnx(network: nn.Module, example: Tensor) -> bytes:
    """Return the network for the example's shape in the format that engines read."""
    program = torch.onnx.export(network, (example,), dynamo=True, verbose=False)
    assert program is not None
    return program.model_proto.SerializeToString()


def onnx_session(model: bytes | str) -> "InferenceSession":
    """Return ONNX Runtime's session for a model, or its file, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Or its waiting threads would take the cores from what PyTorch does with the outputs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_onnx(session: "InferenceSession") -> Run:
    """Return the function that a session computes."""
    (name,) = (entry.name for entry in session.get_inputs())

    def run(images: Tensor) -> Outputs:
        outputs: Any = session.run(None, {name: images.detach().contiguous().numpy()})
        return tuple(map(torch.from_numpy, outputs))

    return run


def run_openvino(model: "Model") -> Run:
    """Return the function that OpenVINO compiles for the CPU."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # or it would take bfloat16 where the CPU has it
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def run(images: Tensor) -> Outputs:
        outputs = compiled(images.detach().contiguous().numpy())
        return tuple(torch.from_numpy(output.copy()) for output in outputs.values())

    return run


def openvino_model(model: bytes | str) -> "Model":
    """Return OpenVINO's reading of a model in ONNX, or of a file of either."""
    import openvino

    return openvino.Core().read_model(io.BytesIO(model) if isinstance(model, bytes) else model)


_ENGINES: dict[str, Callable[[bytes], Run]] = {
    "onnxruntime": lambda model: run_onnx(onnx_session(model)),
    "openvino": lambda model: run_openvino(openvino_model(model)),
}
