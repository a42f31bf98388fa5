"""EfficientNet from a spec: the trunk that detectors share, and the classifier around it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from backbone.blocks import BLOCKS
from backbone.layers import ConvNormAct
from backbone.specs import NetSpec
from compound.export.engines import Run, Runtime, optimized
from compound.hub.mixin import HubMixin

if TYPE_CHECKING:
    from backbone.classification.predictor import Guesses
    from compound.data.sources import Picture
    from compound.weights import LoadReport


class EfficientNetTrunk(nn.Module):
    """Stem and stages, giving one feature map a level; a `backbone.Pyramid`.

    Args:
        spec: the network's table.
        in_channels: channels of the input pictures.

    Attributes:
        channels: level -> channels; level l has stride ``2 ** l``.
        preprocessing: how pictures become its input.
    """

    def __init__(self, spec: NetSpec, *, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = ConvNormAct(in_channels, spec.stem, spec.style, kernel=3, stride=2)
        num_blocks = sum(stage.layers for stage in spec.stages)
        self.channels: dict[int, int] = {}
        self.preprocessing = spec.preprocessing
        self._levels: list[int] = []
        stages, channels, index, level = [], spec.stem, 0, 1
        for stage in spec.stages:
            blocks = []
            for layer in range(stage.layers):
                blocks.append(
                    BLOCKS[stage.block](
                        channels,
                        stage,
                        spec.style,
                        stride=stage.stride if layer == 0 else 1,
                        # Falls linearly over *all* blocks, so the first is never dropped.
                        survival=1.0 - (1.0 - spec.survival) * index / num_blocks,
                    )
                )
                channels, index = stage.channels, index + 1
            level += stage.stride - 1
            self._levels.append(level)
            self.channels[level] = channels  # the last stage at a level is the one to tap
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        _initialise(self)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Map ``(B, 3, H, W)`` to ``{level: (B, C, ceil(H / 2**level), ...)}``."""
        x = self.stem(images)
        features = {}
        for level, stage in zip(self._levels, self.stages, strict=True):
            x = stage(x)
            features[level] = x
        return features


class EfficientNet(HubMixin, nn.Module):
    """The classifier: trunk, 1x1 head, global mean, dropout, linear layer.

    Args:
        spec: the network's table.
        num_classes: number of logits.
        in_channels: channels of the input pictures.

    Attributes:
        class_names: names of the classes in the order of the logits, where they are known.
        load_report: what became of the weights it was built with, None if they are random.
        run: what computes the logits in place of the layers, see `optimize`.
        runtime: the name of what does.
    """

    task = "cls"
    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetSpec, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        self.run: Run | None = None
        self.runtime: str | None = None
        self.class_names: tuple[str, ...] | None = None
        self.load_report: LoadReport | None = None
        self.trunk = EfficientNetTrunk(spec, in_channels=in_channels)
        self.head = ConvNormAct(spec.stages[-1].channels, spec.head, spec.style)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.head, num_classes)
        _initialise(self.head)
        # The official initialiser reads the fan-out of the dense layer, ImageNet's classes. With
        # few classes that would start with logits in the tens, so they take ImageNet's range.
        bound = 1.0 / math.sqrt(max(num_classes, 1000))
        nn.init.uniform_(self.classifier.weight, -bound, bound)
        nn.init.zeros_(self.classifier.bias)
        for name, values in (("mean", spec.preprocessing.mean), ("std", spec.preprocessing.std)):
            statistics = torch.tensor(values)
            if in_channels != len(values):
                statistics = statistics.mean().expand(in_channels)
            self.register_buffer(name, statistics.view(-1, 1, 1).clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised pictures ``(B, C, H, W)`` to logits ``(B, num_classes)``."""
        if self.run is not None:
            return self.run(images)[0]
        last = max(self.trunk.channels)
        x = self.head(self.trunk(images)[last]).mean((2, 3))
        return self.classifier(self.dropout(x))

    def optimize(
        self, image_size: int | None = None, *, batch_size: int = 1, runtime: Runtime = "auto"
    ) -> "EfficientNet":
        """Return a copy that classifies sooner and learns no more; its logits differ by rounding.

        Batch norms are folded, tensors laid out channels-last, and what is left is run by what is
        fastest. The extra ``runtimes`` adds engines to choose from.

        Args:
            image_size: side of the pictures to come; None for the spec's. Others are classified
                as well, only not as fast.
            batch_size: how many of them at a time.
            runtime: see `compound.export.engines.accelerated`.

        Raises:
            UserError: there is no such engine here, or this is such a copy already.
        """
        size = image_size or self.spec.image_size
        return optimized(self, (batch_size, len(self.mean), size, size), runtime)

    def predict(
        self,
        images: "Tensor | Picture | Iterable[Picture]",
        *,
        batch_size: int = 1,
        top: int = 5,
    ) -> "list[Guesses]":
        """Return the likeliest classes of pictures, or of a batch as the network sees it.

        Of however many pictures just a few are in memory: they are decoded while the network looks
        at those before. Batch norms and dropout work as the mode of the module says: call
        ``eval()`` first.

        Args:
            images: ``(B, C, H, W)`` uint8; or a picture or several, cropped and resized as in
                evaluation: files, ``(H, W, 3)`` uint8 RGB, Pillow's.
            batch_size: how many of these the network sees at a time.
            top: how many classes.
        """
        # Of those who train nobody needs what reads files.
        from backbone.classification.predictor import classify, guess

        if isinstance(images, Tensor):
            return guess(self, images, top=top)
        return list(classify(self, images, batch_size=batch_size, top=top))

    @property
    def input(self) -> tuple[tuple[int, int], Mapping[str, Any]]:
        """Return height and width of the input, and the fields of `Preprocessing`."""
        size, preprocessing = self.spec.image_size, asdict(self.spec.preprocessing)
        if len(self.mean) != len(preprocessing["mean"]):  # spread over the channels
            preprocessing["mean"] = self.mean.flatten().tolist()
            preprocessing["std"] = self.std.flatten().tolist()
        return (size, size), preprocessing

    @property
    def min_image_size(self) -> int:
        """Return the side of the smallest images that leave the last stage a whole pixel."""
        return 2 ** max(self.trunk.channels)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn pictures ``(B, C, H, W)`` in 0..255 into what `forward` takes."""
        return (images - self.mean) / self.std


def _initialise(module: nn.Module) -> None:
    """Draw convolution kernels from a normal of std ``sqrt(2 / fan_out)``, biases zero.

    For a depthwise kernel the official code counts a fan-out of k * k, not k * k * channels.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = (
                layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            )
            nn.init.normal_(layer.weight, std=math.sqrt(2.0 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
