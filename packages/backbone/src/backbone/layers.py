"""The layers of every EfficientNet: TensorFlow's SAME padding, conv + norm + act, SE, drop-connect.

Shapes: B = batch, C = channels, H and W = height and width.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_eval

from backbone.specs import LayerStyle
from compound.training.freeze import Norm

V1_STYLE = LayerStyle()
Conv = TypeVar("Conv", bound=nn.Conv2d)


class SiLU(nn.Module):
    """The papers' swish; where nothing learns it writes over its input, which is its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself."""
        return F.silu(x, inplace=not torch.is_grad_enabled())


class ReLU6(nn.Module):
    """The activation of Lite; it writes over its input, which is its own, and needs its output."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself."""
        return F.relu6(x, inplace=True)


ACTIVATIONS = {"silu": SiLU, "relu6": ReLU6}


class _NormSiLU(torch.autograd.Function):
    """Batch norm and swish in training, keeping the norm's input alone.

    Autograd would keep what lies between the two as well; here the backward pass works it out
    again, at one pass over it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """Do both, moving the running statistics."""
        assert norm.momentum is not None
        out, mean, inverse_std = torch.native_batch_norm(
            x, weight, bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
        )  # fmt: skip
        ctx.save_for_backward(x, weight, bias, mean, inverse_std)
        ctx.eps = norm.eps
        return F.silu(out, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input, weight and bias."""
        x, weight, bias, mean, inverse_std = ctx.saved_tensors
        scale = weight * inverse_std
        shift = bias - mean * scale
        normed = torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(x.dtype)
        grad = torch.ops.aten.silu_backward(grad, normed)
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse_std, True, ctx.eps,
            list(ctx.needs_input_grad[:3]),
        )  # fmt: skip
        return (*grads, None)


def norm_act(x: Tensor, norm: nn.Module, act: nn.Module) -> Tensor:
    """Return ``act(norm(x))``, where a CPU trains with swish at less memory.

    A GPU's norm is cuDNN's, and a compiler decides for itself what it keeps.
    """
    trains = isinstance(norm, nn.BatchNorm2d) and norm.training and torch.is_grad_enabled()
    plainly = x.device.type != "cpu" or torch.compiler.is_compiling()
    if not trains or not isinstance(act, SiLU) or plainly:
        return act(norm(x))
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)  # pyright: ignore[reportCallIssue]
    return _NormSiLU.apply(x, norm.weight, norm.bias, norm)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after one axis that TensorFlow's SAME gives.

    The output has ``ceil(size / stride)`` places; an odd total puts the larger half after. It
    depends on ``size``, so that a stride of 2 on even sizes pads (0, 1) for a kernel of 3.
    """
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


class Conv2dSame(nn.Conv2d):
    """``Conv2d`` with TensorFlow's SAME padding, computed from each input's size."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        top, bottom = same_padding(x.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(x.shape[-1], self.kernel_size[1], self.stride[1])
        weight = self.weight
        if (top, left) == (bottom, right):
            padding = (top, left)
        elif self.groups > 1 and x.device.type == "cpu" and not torch.compiler.is_exporting():
            # A kernel with zeros before it, evenly padded, computes the same without a copy of a
            # large map; engines that a network is exported to pad unevenly by themselves.
            weight = F.pad(weight, (right - left, 0, bottom - top, 0))
            padding = (bottom, right)
        else:
            x = F.pad(x, (left, right, top, bottom))
            padding = (0, 0)
        return F.conv2d(x, weight, self.bias, self.stride, padding, groups=self.groups)


def max_pool_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Max-pool with SAME padding; the border counts as minus infinity, not as zero.

    An odd padding puts its larger half after: there the last window reaches one beyond the
    padding, which a rounded-up number of windows allows.
    """
    top, bottom = same_padding(x.shape[-2], kernel[0], stride[0])
    left, right = same_padding(x.shape[-1], kernel[1], stride[1])
    if x.shape[-2] < kernel[0] or x.shape[-1] < kernel[1]:
        # Not all engines take windows beyond the map; to repeat its border changes no maximum.
        x = F.pad(x, (left, right, top, bottom), mode="replicate")
        top = left = 0
    return F.max_pool2d(x, list(kernel), list(stride), (top, left), ceil_mode=True)


def folded(conv: Conv, norm: nn.Module) -> Conv:
    """Return a convolution, with a bias, that does what ``norm(conv(x))`` does in evaluation."""
    assert isinstance(norm, Norm)
    return fuse_conv_bn_eval(conv, norm)


def batch_norm(channels: int, style: LayerStyle = V1_STYLE) -> nn.BatchNorm2d:
    """Batch norm with the network's momentum and epsilon; EfficientDet's are V1's."""
    return nn.BatchNorm2d(channels, eps=style.bn_eps, momentum=style.bn_momentum)


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, and the network's activation unless ``act`` is false.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        style: activation, padding and batch norm of the network.
        kernel: side of the kernel.
        stride: of the convolution.
        groups: of the convolution.
        act: whether an activation follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: LayerStyle,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        if style.padding == "same":
            self.conv = Conv2dSame(
                in_channels, out_channels, kernel, stride, groups=groups, bias=False
            )
        else:
            self.conv = nn.Conv2d(
                in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
            )
        self.norm: nn.Module = batch_norm(out_channels, style)
        self.act = ACTIVATIONS[style.act]() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', H', W')``."""
        return norm_act(self.conv(x), self.norm, self.act)

    def fold(self) -> None:
        """Let the convolution do what the norm does."""
        self.conv, self.norm = folded(self.conv, self.norm), nn.Identity()


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the picture's channel means."""

    def __init__(self, channels: int, squeezed: int, style: LayerStyle) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.act = ACTIVATIONS[style.act]()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        gate = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


def drop_connect(x: Tensor, survival: float) -> Tensor:
    """Drop whole samples of a residual branch and rescale those that stay.

    Args:
        x: ``(B, C, H, W)`` the branch, in training.
        survival: probability in (0, 1] that a sample keeps its branch.
    """
    if survival == 1.0:
        return x
    keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < survival
    return x * (keep.to(x.dtype) / survival)
