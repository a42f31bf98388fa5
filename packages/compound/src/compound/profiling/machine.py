"""Device and precision of a measurement, and what else its figures depend on."""

import platform
from importlib.metadata import version
from typing import Any

import torch

from compound.errors import UserError, closest

_PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "albumentations")


def pick_device(asked: str) -> str:
    """Return ``cpu`` or ``cuda``.

    Args:
        asked: also ``auto``, a GPU if there is one, and ``gpu``, as Lightning calls it.

    Raises:
        UserError: there is no such device.
    """
    closest(asked, ("auto", "cpu", "cuda", "gpu"), what="device")
    if asked == "cpu":
        return asked
    if torch.cuda.is_available():
        return "cuda"
    if asked != "auto":
        raise UserError(f"device={asked}: PyTorch sees no GPU here; take device=cpu")
    return "cpu"


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the context in which a network computes at one of `PRECISIONS`."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device, dtype, enabled=precision != "32-true")


def describe(device: str) -> dict[str, Any]:
    """Return device, threads and versions, as plain values."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in _PACKAGES},
    }
