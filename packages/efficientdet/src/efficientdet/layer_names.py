"""What each of a detector's layers is called here, in effdet, and in the official checkpoints."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from backbone.specs import NetSpec
from backbone.weights.layer_names import layer_names
from efficientdet.bifpn import bifpn_nodes
from efficientdet.specs import DetSpec

Scheme = Literal["ours", "effdet", "tensorflow"]
_TOP_OF_BACKBONE = 5


class LayerNames(NamedTuple):
    """One convolution or batch norm; ``tensorflow`` as `compound.weights.tensorflow` names it."""

    ours: str
    effdet: str
    tensorflow: str


def detector_layers(spec: DetSpec, net: NetSpec) -> Iterator[LayerNames]:
    """Yield the names of every layer that may have tensors."""
    official = net.name.replace("_", "-")
    for layer in layer_names(net):
        if layer.ours.startswith("trunk."):
            ours = layer.ours.replace("trunk.", "pyramid.", 1)
            yield LayerNames(ours, f"backbone.{layer.timm}", f"{official}/{layer.tensorflow}")
    yield from _resampling("bifpn.extra", "fpn.resample.3", "resample_p6")
    for cell in range(spec.fpn_cells):
        yield from _cell(spec, cell)
    for kind in ("class", "box"):
        yield from _head(spec, kind)


def fusion_weights(spec: DetSpec) -> Iterator[tuple[LayerNames, int]]:
    """Yield the name of each node's fusion weights and their number.

    Here and in effdet they are one vector; officially scalars ``WSM``, ``WSM_1`` and ``WSM_2``.
    """
    if spec.fusion == "fast":
        for cell in range(spec.fpn_cells):
            for node, (_, ids) in enumerate(bifpn_nodes(spec.min_level, spec.max_level)):
                ours, effdet, official = _node(cell, node)
                names = (f"{ours}.weights", f"{effdet}.combine.edge_weights", f"{official}/WSM")
                yield LayerNames(*names), len(ids)


def _node(cell: int, node: int) -> LayerNames:
    return LayerNames(
        f"bifpn.cells.{cell}.nodes.{node}",
        f"fpn.cell.{cell}.fnode.{node}",
        f"fpn_cells/cell_{cell}/fnode{node}",
    )


def _cell(spec: DetSpec, cell: int) -> Iterator[LayerNames]:
    num_levels = len(spec.levels)
    backbone_levels = _TOP_OF_BACKBONE - spec.min_level + 1
    for node, (_, ids) in enumerate(bifpn_nodes(spec.min_level, spec.max_level)):
        ours, effdet, official = _node(cell, node)
        for position, source in enumerate(ids):
            # Only the first cell sees the backbone's own maps, at their own widths.
            if cell == 0 and source < backbone_levels:
                yield from _resampling(
                    f"{ours}.laterals.{position}",
                    f"{effdet}.combine.resample.{source}",
                    f"{official}/resample_{position}_{source}_{num_levels + node}",
                )
        official += f"/op_after_combine{num_levels + node}"
        yield from _separable(f"{ours}.conv", f"{effdet}.after_combine.conv", f"{official}/conv")
        yield LayerNames(f"{ours}.norm", f"{effdet}.after_combine.conv.bn", f"{official}/bn")


def _head(spec: DetSpec, kind: str) -> Iterator[LayerNames]:
    ours, effdet, official = f"{kind}_head", f"{kind}_net", f"{kind}_net/{kind}"
    for layer in range(spec.head_repeats):
        yield from _separable(
            f"{ours}.convs.{layer}", f"{effdet}.conv_rep.{layer}", f"{official}-{layer}"
        )
        for position, level in enumerate(spec.levels):
            yield LayerNames(
                f"{ours}.norms.{level}.{layer}",
                f"{effdet}.bn_rep.{layer}.{position}.bn",
                f"{official}-{layer}-bn-{level}",
            )
    yield from _separable(f"{ours}.predict", f"{effdet}.predict", f"{official}-predict")


def _resampling(ours: str, effdet: str, official: str) -> Iterator[LayerNames]:
    yield LayerNames(f"{ours}.conv", f"{effdet}.conv.conv", f"{official}/conv2d")
    yield LayerNames(f"{ours}.norm", f"{effdet}.conv.bn", f"{official}/bn")


def _separable(ours: str, effdet: str, official: str) -> Iterator[LayerNames]:
    for part, short in (("depthwise", "dw"), ("pointwise", "pw")):
        yield LayerNames(f"{ours}.{part}", f"{effdet}.conv_{short}", f"{official}/{part}")
