"""Feature pyramids: what a detector asks of its backbone, and how any network becomes one."""

from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbone.specs import NetSpec, Preprocessing
from compound.errors import UserError, closest

TIMM_PREFIX = "timm/"
_FINEST_LEVEL = 3


@runtime_checkable
class Pyramid(Protocol):
    """Feature maps by level: level l has stride ``2 ** l`` and ``channels[l]`` channels.

    Maps are ``ceil(H / 2 ** l)`` high. One that also has ``preprocessing`` says how pictures
    become its input; otherwise that is ImageNet's mean and deviation.
    """

    channels: dict[int, int]

    def __call__(self, images: Tensor) -> dict[int, Tensor]:
        """Map pictures ``(B, 3, H, W)`` to one feature map a level."""
        ...


class TimmPyramid(nn.Module):
    """Any network of timm's that gives maps at strides 8, 16 and 32 of pictures of any size.

    It trains with timm's own defaults, so without stochastic depth. Pictures whose sides its
    strides do not divide are padded below and to the right with zeros, the mean colour.

    Args:
        name: as in ``timm.list_models()``, tag included or not.
        pretrained: load timm's weights from the Hugging Face hub.

    Raises:
        UserError: timm does not know it, it has no such maps, or its weights cannot be fetched.
    """

    def __init__(self, name: str, *, pretrained: bool = False) -> None:
        super().__init__()
        import timm  # those who stand on a network of ours need none of it

        if not timm.is_model(name):
            known = [f"{TIMM_PREFIX}{model}" for model in timm.list_models()]
            closest(f"{TIMM_PREFIX}{name}", known, what="backbone")
        try:
            net: Any = timm.create_model(name, features_only=True)
            levels = {r.bit_length() - 1: i for i, r in enumerate(net.feature_info.reduction())}
            indices = tuple(levels[level] for level in range(_FINEST_LEVEL, _FINEST_LEVEL + 3))
        except (RuntimeError, AttributeError, KeyError) as error:
            if "tag" in str(error):
                raise UserError(f"backbone={TIMM_PREFIX}{name}: {error}") from error
            raise UserError(
                f"backbone={TIMM_PREFIX}{name} gives no feature maps at strides 8, 16 and 32; "
                "choose a convolutional or hierarchical network"
            ) from error
        try:
            net = timm.create_model(
                name, features_only=True, out_indices=indices, pretrained=pretrained
            )
        except Exception as error:  # the hub's, a proxy's, the disk's
            raise UserError(
                f"backbone_weights=imagenet: timm could not fetch those of {name} "
                f"({type(error).__name__}); run once with a network, or leave them out"
            ) from error
        self.net: nn.Module = net
        widths = net.feature_info.channels()
        self.channels = {_FINEST_LEVEL + i: width for i, width in enumerate(widths)}
        if not self._takes_any_size():
            raise UserError(
                f"backbone={TIMM_PREFIX}{name} takes pictures of one size only, or its maps are "
                "not as large as its strides say; choose another"
            )
        config = timm.get_pretrained_cfg(name)
        self.preprocessing = Preprocessing()
        if config is not None:
            mean, std = (tuple(255 * v for v in values) for values in (config.mean, config.std))
            self.preprocessing = Preprocessing(mean=mean, std=std)  # pyright: ignore[reportArgumentType]

    def _takes_any_size(self) -> bool:
        """Return whether maps of an oblong picture are what a detector expects of them."""
        height, width = 96, 160
        wanted = [
            (1, c, height // 2**level, width // 2**level) for level, c in self.channels.items()
        ]
        try:
            with torch.no_grad():
                maps = self.eval()(torch.zeros(1, 3, height, width)).values()
        except Exception:  # whatever a network says of a size it does not take
            return False
        self.train()
        return [tuple(x.shape) for x in maps] == wanted

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Map ``(B, 3, H, W)`` to ``{level: (B, C, ceil(H / 2**level), ...)}``."""
        height, width = images.shape[-2:]
        coarsest = 2 ** max(self.channels)
        padded = F.pad(images, (0, -width % coarsest, 0, -height % coarsest))
        return {
            level: x[..., : -(-height // 2**level), : -(-width // 2**level)]
            for level, x in zip(self.channels, self.net(padded), strict=True)
        }


def find_backbone(name: str) -> NetSpec | str:
    """Return the table of a published network, or ``name`` itself if it is one of timm's.

    Tables of all installed packages count: each names its own under the entry point
    ``backbone.networks``.

    Raises:
        UserError: there is no such network.
    """
    if name.startswith(TIMM_PREFIX):
        return name
    tables = [entry.load() for entry in entry_points(group="backbone.networks")]
    networks = {key: spec for table in tables for key, spec in table.items()}
    if name in networks:
        return networks[name]
    import timm

    if timm.is_model(name):
        raise UserError(f"backbone={name} is one of timm's; write {TIMM_PREFIX}{name}")
    try:
        return networks[closest(name, networks, what="backbone")]
    except UserError as error:
        raise UserError(f"{error}; networks of timm's are written timm/<name>") from error
