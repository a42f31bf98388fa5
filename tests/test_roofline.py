"""The arithmetic of ``benchmarks/roofline.py``."""

import json
from pathlib import Path

import pytest
import roofline
import torch
from torch.utils.flop_counter import FlopCounterMode

from efficientdet import create_model


def test_operations_are_those_that_pytorch_counts() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        create_model("efficientdet_d0")(torch.empty(1, 3, 512, 512))
    forward = list(roofline._layers(1, 4, train=False))
    assert sum(work.operations for work in forward) == counter.get_total_flops()
    step = list(roofline._layers(1, 4, train=True))
    # The gradient of the pictures themselves is nobody's: a third of the stem's.
    stem = 2 * 27 * 32 * 256 * 256
    assert sum(work.operations for work in step) == 3 * counter.get_total_flops() - stem


def test_bytes_of_the_stem() -> None:
    forward, step = (list(roofline._layers(1, 4, train=train)) for train in (False, True))
    # 3 x 512 x 512 in, 32 x 256 x 256 out, a kernel of 3 x 3 x 3 x 32
    assert forward[0].bytes == 4 * (786_432 + 2_097_152 + 864)
    assert step[0].bytes == 2 * forward[0].bytes
    assert step[1].bytes == 67_108_864  # its norm: eight passes over 8 MiB


def test_what_was_reached_is_the_best_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "RESULTS", tmp_path)
    assert roofline._reached("speed_x_cpu.json", "network") is None
    rows = [
        {"what": f"{what} alone", "ours": ours} for what, ours in (("network", 5.0), ("a", 1.0))
    ]
    (tmp_path / "speed_x_cpu.json").write_text(json.dumps({"rows": rows}))
    assert roofline._reached("speed_x_cpu.json", "network") == 5.0
    assert roofline._reached("speed_x_cpu.json", "prediction") is None
