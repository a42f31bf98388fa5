"""Optimizers: which tensors decay, how the learning rate scales, how gradients are clipped."""

from collections.abc import Callable, Iterable
from functools import partial

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from backbone.train.schedule import warmup_cosine


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split the parameters into kernels, which decay, and the rest, which does not.

    As in the official EfficientDet code, biases, batch norms and fusion weights never decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(
    model: nn.Module,
    optimizer: Callable[..., Optimizer],
    *,
    lr: float,
    base_batch_size: int,
    batch_size: int,
    weight_decay: float,
) -> Optimizer:
    """Build an optimizer whose learning rate grows linearly with the batch.

    Args:
        model: what to train.
        optimizer: such as ``torch.optim.SGD``, with its own numbers bound.
        lr: peak learning rate at ``base_batch_size`` pictures a step.
        base_batch_size: the batch that ``lr`` is meant for.
        batch_size: pictures of one optimizer step over all devices.
        weight_decay: of the kernels.
    """
    groups = parameter_groups(model, weight_decay)
    return optimizer(groups, lr=lr * batch_size / base_batch_size)


def build_schedule(optimizer: Optimizer, *, total: int, warmup: int) -> LambdaLR:
    """Build the per-step schedule of `warmup_cosine`."""
    return LambdaLR(optimizer, partial(_factor, total=total, warmup=warmup))


def _factor(step: int, *, total: int, warmup: int) -> float:
    return warmup_cosine(step, total=total, warmup=warmup)


def clip_each(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Clip the norm of every single gradient, as the official code does before the global norm."""
    for parameter in parameters:
        if parameter.grad is not None:
            norm = parameter.grad.norm().clamp(min=1e-12)
            parameter.grad.mul_((max_norm / norm).clamp(max=1.0))
