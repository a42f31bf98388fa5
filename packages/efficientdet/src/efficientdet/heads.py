"""Class and box heads: convolutions shared over the levels, batch norms of their own.

Shapes: B = batch, W = channels, A = anchors a place, K = classes.
"""

import math
from copy import deepcopy

from torch import Tensor, nn

from backbone.grad_checkpointing import recomputed
from backbone.layers import ACTIVATIONS, batch_norm, folded, norm_act
from backbone.specs import Act
from efficientdet.layers import SeparableConv

# A random network should call one anchor in a hundred an object: sigmoid(b) = 0.01.
PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


class Head(nn.Module):
    """``repeats`` x (separable conv, batch norm of the level, activation), then a separable conv.

    No residual connections and no drop-connect, as in every published model (the official code
    has both behind ``survival_prob``, which is unset).

    Args:
        channels: W.
        out_channels: A * K for classes, A * 4 for boxes.
        repeats: number of hidden layers.
        levels: the pyramid levels that the head is applied to.
        bias: initial bias of the output.
        act: activation.

    Attributes:
        recomputed: whether training computes the hidden layers again in the backward pass.
        folded: the hidden layers by level, once `fold` has made them.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        repeats: int,
        levels: range,
        bias: float,
        act: Act,
    ) -> None:
        super().__init__()
        self.recomputed = False
        self.folded: nn.ModuleDict | None = None
        self.act = ACTIVATIONS[act]()
        self.convs = nn.ModuleList(SeparableConv(channels, channels) for _ in range(repeats))
        self.norms = nn.ModuleDict(
            {
                str(level): nn.ModuleList(batch_norm(channels) for _ in range(repeats))
                for level in levels
            }
        )
        self.predict = SeparableConv(channels, out_channels)
        _initialise(self)
        assert self.predict.pointwise.bias is not None
        nn.init.constant_(self.predict.pointwise.bias, bias)

    def forward(self, features: dict[int, Tensor]) -> list[Tensor]:
        """Map ``{level: (B, W, h, w)}`` to one ``(B, out_channels, h, w)`` a level."""
        outputs = []
        for level, x in features.items():
            if self.folded is not None:
                convs = self.folded[str(level)]
                assert isinstance(convs, nn.ModuleList)
                for conv in convs:
                    x = self.act(conv(x))
            else:
                norms = self.norms[str(level)]
                assert isinstance(norms, nn.ModuleList)
                hide = self._hidden
                x = recomputed(hide, x, norms, norms=norms) if self.recomputed else hide(x, norms)
            outputs.append(self.predict(x))
        return outputs

    def _hidden(self, x: Tensor, norms: nn.ModuleList) -> Tensor:
        for conv, norm in zip(self.convs, norms, strict=True):
            x = norm_act(conv(x), norm, self.act)
        return x

    def fold(self) -> None:
        """Give each level convolutions of its own, which do what its norms do as well."""
        self.folded = nn.ModuleDict()
        for level, norms in self.norms.items():
            assert isinstance(norms, nn.ModuleList)
            convs = deepcopy(self.convs)
            for conv, norm in zip(convs, norms, strict=True):
                assert isinstance(conv, SeparableConv)
                conv.pointwise = folded(conv.pointwise, norm)
            self.folded[level] = convs
        self.convs, self.norms = nn.ModuleList(), nn.ModuleDict()


def _initialise(module: nn.Module) -> None:
    """Keras' variance scaling: truncated normal of variance 1 / fan_in, biases zero.

    Keras counts k * k * C as the fan-in of a depthwise kernel over C channels. A normal cut at
    two deviations has 0.8796 of the spread, which Keras makes up for.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels
            std = math.sqrt(1.0 / fan_in) / 0.87962566103423978
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
