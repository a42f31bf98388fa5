"""The two blocks that every EfficientNet is built of."""

from torch import Tensor, nn

from backbone.layers import ConvNormAct, SqueezeExcite, drop_connect
from backbone.specs import LayerStyle, StageSpec


class MBConv(nn.Module):
    """Inverted bottleneck: expand 1x1, depthwise, squeeze-excite, project 1x1, residual.

    The expansion is left out where its ratio is 1. The width of squeeze-and-excitation follows
    the block's input, not its expanded width (arXiv:1905.11946, Sec. 4; official `MBConvBlock`).

    Args:
        in_channels: channels of the block's input.
        stage: the row of the table that the block belongs to.
        style: activation, padding and batch norm of the network.
        stride: the block's own stride (a row's stride holds for its first block only).
        survival: probability of keeping the residual branch in training.
    """

    def __init__(
        self,
        in_channels: int,
        stage: StageSpec,
        style: LayerStyle,
        *,
        stride: int,
        survival: float = 1.0,
    ) -> None:
        super().__init__()
        width = in_channels * stage.expand
        self.survival = survival
        self.residual = stride == 1 and in_channels == stage.channels
        self.expand = ConvNormAct(in_channels, width, style) if stage.expand != 1 else nn.Identity()
        self.depthwise = ConvNormAct(
            width, width, style, kernel=stage.kernel, stride=stride, groups=width
        )
        squeezed = max(1, int(in_channels * stage.se_ratio))
        self.squeeze_excite = (
            SqueezeExcite(width, squeezed, style) if stage.se_ratio else nn.Identity()
        )
        self.project = ConvNormAct(width, stage.channels, style, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        out = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return _add_residual(self, x, out)


class FusedMBConv(nn.Module):
    """MBConv with expansion and depthwise convolution fused into one full convolution.

    With an expansion ratio of 1 it is that one convolution with norm *and* activation, and no
    projection; the residual is added after the activation (arXiv:2104.00298, Sec. 3.2; official
    `FusedMBConvBlock`). No published network has squeeze-and-excitation in it.

    Args:
        in_channels: channels of the block's input.
        stage: the row of the table that the block belongs to.
        style: activation, padding and batch norm of the network.
        stride: the block's own stride.
        survival: probability of keeping the residual branch in training.
    """

    def __init__(
        self,
        in_channels: int,
        stage: StageSpec,
        style: LayerStyle,
        *,
        stride: int,
        survival: float = 1.0,
    ) -> None:
        super().__init__()
        width = in_channels * stage.expand if stage.expand != 1 else stage.channels
        self.survival = survival
        self.residual = stride == 1 and in_channels == stage.channels
        self.fused = ConvNormAct(in_channels, width, style, kernel=stage.kernel, stride=stride)
        self.project = (
            ConvNormAct(width, stage.channels, style, act=False)
            if stage.expand != 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        return _add_residual(self, x, self.project(self.fused(x)))


Block = MBConv | FusedMBConv
BLOCKS: dict[str, type[Block]] = {"mbconv": MBConv, "fused": FusedMBConv}


def _add_residual(block: Block, x: Tensor, out: Tensor) -> Tensor:
    if not block.residual:
        return out
    return x + (drop_connect(out, block.survival) if block.training else out)
