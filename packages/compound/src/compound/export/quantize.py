"""Networks in integers of 8 bits: static quantisation by ONNX Runtime.

Kernels are scaled by channel. How far the maps reach is measured on pictures (min and max), so
nothing of what was seen is cut off. What a program does around its network, preprocessing and
NMS, stays in 32 bits.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compound.errors import UserError
from compound.export.program import INPUT, quiet

# The attribute of the traced modules that holds the network, as PyTorch's exporter notes it.
_NETWORK = "'network'"
_SCOPES = "pkg.torch.onnx.name_scopes"


def quantize(source: Path, target: Path, pictures: Iterable[np.ndarray]) -> None:
    """Write a program in ONNX as one that computes its network in integers of 8 bits.

    Args:
        source: the program.
        target: where to.
        pictures: ``(1, C, H, W)`` uint8 as the program takes them, such as it will see.

    Raises:
        UserError: there is no picture.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """Hands out the pictures."""

        def __init__(self) -> None:
            self.pictures = iter(pictures)
            self.count = 0

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Return the next input, None after the last."""
            image = next(self.pictures, None)
            if image is None and not self.count:
                raise UserError("calibration: there is no picture to measure the maps on")
            self.count += 1
            return None if image is None else {INPUT: image}

    graph = onnx.load(source).graph
    inside = [
        node.name
        for node in graph.node
        if any(p.key == _SCOPES and _NETWORK in p.value for p in node.metadata_props)
    ]
    with quiet():  # of its advice to prepare models, as exported ones are
        quantize_static(
            str(source),
            str(target),
            Reader(),
            per_channel=True,
            nodes_to_quantize=inside,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
