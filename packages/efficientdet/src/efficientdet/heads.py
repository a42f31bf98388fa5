"""Class and box heads: convolutions shared over the levels, batch norms of their own.

Shapes: B = batch, W = channels, A = anchors a place, K = classes.
"""

import math

from torch import Tensor, nn

from backbone.layers import ACTIVATIONS, batch_norm, norm_act
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
        return [self.predict(self.hidden(x, level)) for level, x in features.items()]

    def hidden(self, x: Tensor, level: int) -> Tensor:
        """Run the hidden layers on a level's ``(B, W, h, w)``, with the norms of that level."""
        norms = self.norms[str(level)]
        assert isinstance(norms, nn.ModuleList)
        for conv, norm in zip(self.convs, norms, strict=True):
            x = norm_act(conv(x), norm, self.act)
        return x


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
