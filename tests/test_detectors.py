"""Every detector equals effdet's and the official one under the same weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import parity_detectors as parity
import pytest
import torch

from backbone.specs import NetSpec
from backbone.weights.tensorflow import to_torch
from efficientdet import create_model
from efficientdet.specs import EFFICIENTDET
from efficientdet.weights import _under_our_names

TOLERANCE = 1e-4


@pytest.mark.parity
@pytest.mark.parametrize("name", EFFICIENTDET)
def test_equals_effdet(name: str) -> None:
    assert parity.against_effdet(name) < TOLERANCE


@pytest.mark.parity
@pytest.mark.parametrize(
    "changes", [{"act": "silu"}, {"fusion": "fast"}, {"backbone": "efficientnet_b0"}], ids=str
)
def test_a_wrong_row_shows(changes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would see if Lite0's row were not the official one."""
    wrong = replace(EFFICIENTDET["efficientdet_lite0"], **changes)  # type: ignore[arg-type]
    monkeypatch.setitem(EFFICIENTDET, "efficientdet_lite0", wrong)
    try:
        difference = parity.against_effdet("efficientdet_lite0")
    except ValueError:  # tensors that are missing, such as fusion weights
        return
    assert difference > 10 * TOLERANCE


@pytest.mark.real
@pytest.mark.parametrize("case", parity.OFFICIAL["efficientdet_d0"])
def test_equals_the_official_code(case: str, compound_data: Path) -> None:
    pytest.importorskip("tensorflow")
    folder = compound_data / "expected/tf/efficientdet-d0"
    # 3e-4 is what the official code's own float32 leaves
    assert parity.against_official("efficientdet_d0", folder, case) < 3e-4


@pytest.mark.real
@pytest.mark.parametrize("name", EFFICIENTDET)
def test_official_names_and_shapes(name: str, compound_data: Path) -> None:
    """The official variables of every detector are those that the loader looks for."""
    variables = {}
    file = compound_data / "expected/tf/names" / f"{name.replace('_', '-')}.txt"
    for line in file.read_text().splitlines():
        variable, shape, *_ = line.split("\t")
        sizes = [int(n) for n in shape.strip("[]").split(",") if n.strip()]
        variables[variable] = np.empty(sizes, "f4")
    with torch.device("meta"):
        model = create_model(name)
    assert isinstance(model.spec.backbone, NetSpec)
    found = _under_our_names(to_torch(variables), model.spec, model.spec.backbone, "tensorflow")
    own = model.state_dict()
    wanted = {k: tuple(v.shape) for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert {key: tuple(value.shape) for key, value in found.items()} == wanted
