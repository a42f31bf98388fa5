"""What each layer is called here, in timm, in torchvision, and in the official checkpoints."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from backbone.specs import NetSpec, StageSpec

Scheme = Literal["ours", "timm", "torchvision", "lukemelas", "tensorflow"]


@dataclass(frozen=True, slots=True)
class LayerNames:
    """One convolution, batch norm or linear layer.

    ``lukemelas`` are the names of the package efficientnet-pytorch and of those that follow it;
    ``tensorflow`` leaves out the model's prefix, such as ``efficientnet-b0/``.
    """

    ours: str
    timm: str
    torchvision: str
    lukemelas: str
    tensorflow: str


def layer_names(spec: NetSpec) -> Iterator[LayerNames]:
    """Yield the names of every layer that has tensors, in the order of the computation."""
    yield LayerNames("trunk.stem.conv", "conv_stem", "features.0.0", "_conv_stem", "stem/conv2d")
    yield LayerNames(
        "trunk.stem.norm", "bn1", "features.0.1", "_bn0", "stem/tpu_batch_normalization"
    )
    index = 0
    for number, stage in enumerate(spec.stages):
        for layer in range(stage.layers):
            block = LayerNames(
                f"trunk.stages.{number}.{layer}",
                f"blocks.{number}.{layer}",
                f"features.{number + 1}.{layer}.block",
                f"_blocks.{index}",
                f"blocks_{index}",
            )
            yield from _block(stage, block)
            index += 1
    last = f"features.{len(spec.stages) + 1}"
    yield LayerNames("head.conv", "conv_head", f"{last}.0", "_conv_head", "head/conv2d")
    yield LayerNames("head.norm", "bn2", f"{last}.1", "_bn1", "head/tpu_batch_normalization")
    yield LayerNames("classifier", "classifier", "classifier.1", "_fc", "head/dense")


def _parts(stage: StageSpec) -> list[str]:
    if stage.block == "fused":
        return ["fused", "project"] if stage.expand != 1 else ["fused"]
    parts = ["expand"] if stage.expand != 1 else []
    parts += ["depthwise", "squeeze_excite"] if stage.se_ratio else ["depthwise"]
    return [*parts, "project"]


def _block(stage: StageSpec, block: LayerNames) -> Iterator[LayerNames]:
    expanded = stage.expand != 1
    timm_convs = {
        "expand": "conv_pw",
        "depthwise": "conv_dw",
        "fused": "conv_exp" if expanded else "conv",
        "project": "conv_pwl" if expanded else "conv_pw",
    }
    lukemelas_norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2", "fused": "_bn0"}
    convs = norms = 0
    for position, part in enumerate(_parts(stage)):
        if part == "squeeze_excite":
            yield from _squeeze_excite(block, position)
            continue
        if part == "depthwise":
            official = "depthwise_conv2d"
        else:
            official, convs = _numbered("conv2d", convs), convs + 1
        yield LayerNames(
            f"{block.ours}.{part}.conv",
            f"{block.timm}.{timm_convs[part]}",
            f"{block.torchvision}.{position}.0",
            f"{block.lukemelas}._{part}_conv",
            f"{block.tensorflow}/{official}",
        )
        yield LayerNames(
            f"{block.ours}.{part}.norm",
            f"{block.timm}.bn{norms + 1}",
            f"{block.torchvision}.{position}.1",
            f"{block.lukemelas}.{lukemelas_norms[part]}",
            f"{block.tensorflow}/{_numbered('tpu_batch_normalization', norms)}",
        )
        norms += 1


def _squeeze_excite(block: LayerNames, position: int) -> Iterator[LayerNames]:
    for index, step in enumerate(("reduce", "expand")):
        yield LayerNames(
            f"{block.ours}.squeeze_excite.{step}",
            f"{block.timm}.se.conv_{step}",
            f"{block.torchvision}.{position}.fc{index + 1}",
            f"{block.lukemelas}._se_{step}",
            f"{block.tensorflow}/se/{_numbered('conv2d', index)}",
        )


def _numbered(name: str, count: int) -> str:
    """Return Keras's name of the ``count``-th layer of a kind: the first has no number."""
    return f"{name}_{count}" if count else name
