"""The layers that keep running statistics."""

from torch import nn

# The second is not a subclass of the first.
Norm = nn.BatchNorm2d | nn.SyncBatchNorm
