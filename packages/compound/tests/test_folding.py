"""Folding against the network as it is, in float64, where only a mistake makes a difference."""

import pytest
import torch
from torch import nn

from backbone import create_model
from compound.export.folding import fold
from compound.training.freeze import Norm


def with_random_norms(model: nn.Module) -> nn.Module:
    """Give every norm statistics and weights that folding must not lose."""
    for norm in (layer for layer in model.modules() if isinstance(layer, Norm)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        nn.init.normal_(norm.running_mean, std=0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model.double().eval()


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0"])
def test_classifier_computes_the_same_without_norms(name: str) -> None:
    model = with_random_norms(create_model(name, num_classes=7))
    images = torch.randn(2, 3, 65, 96, dtype=torch.float64)
    with torch.no_grad():
        wanted = model(images)
    fold(model)
    assert not any(isinstance(layer, Norm) for layer in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(images), wanted, atol=1e-10, rtol=1e-10)
