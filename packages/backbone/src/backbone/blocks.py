"""MBConv, the block that every EfficientNet is built of (arXiv:1905.11946, Sec. 4)."""

from torch import Tensor, nn

from backbone.layers import ConvNormAct, SqueezeExcite, drop_connect
from backbone.specs import StageSpec


class MBConv(nn.Module):
    """Inverted bottleneck: expand 1x1, depthwise, squeeze-excite, project 1x1, residual.

    The expansion is left out where its ratio is 1. The width of squeeze-and-excitation follows
    the block's input, not its expanded width (official `MBConvBlock`).

    Args:
        in_channels: channels of the block's input.
        stage: the row of the table that the block belongs to.
        stride: the block's own stride (a row's stride holds for its first block only).
        survival: probability of keeping the residual branch in training.
    """

    def __init__(
        self, in_channels: int, stage: StageSpec, *, stride: int, survival: float = 1.0
    ) -> None:
        super().__init__()
        width = in_channels * stage.expand
        self.survival = survival
        self.residual = stride == 1 and in_channels == stage.channels
        self.expand = ConvNormAct(in_channels, width) if stage.expand != 1 else nn.Identity()
        self.depthwise = ConvNormAct(width, width, kernel=stage.kernel, stride=stride, groups=width)
        squeezed = max(1, int(in_channels * stage.se_ratio))
        self.squeeze_excite = SqueezeExcite(width, squeezed) if stage.se_ratio else nn.Identity()
        self.project = ConvNormAct(width, stage.channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        out = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        if not self.residual:
            return out
        return x + (drop_connect(out, self.survival) if self.training else out)
