"""Demo: ``uv run tools/demo.py weights=<run>`` and open the address that it prints."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from ipaddress import ip_address
from tempfile import TemporaryDirectory

from omegaconf import DictConfig, ListConfig

from compound.cli.networks import check_prediction
from compound.cli.runs import checkpoint_of, run_of
from compound.errors import UserError
from compound.profiling.machine import pick_device

log = logging.getLogger(__name__)

_LAST_PORT = 65535


def demo(config: DictConfig) -> None:
    """Show a page that takes pictures and draws what networks find in them."""
    if find_spec("gradio") is None:
        raise UserError("the page needs Gradio, which is not installed; run `uv sync --extra demo`")
    weights = _checked(config)
    with listening(str(config.host), config.port) as door, _own_folder():
        # Gradio reads the folder and the other settings of the environment when it is imported.
        from compound.cli.demo_page import Networks, page_of, serve

        networks = Networks(config, pick_device(str(config.device)))
        about = networks[weights[0]].about  # errors are reported before there is a page
        app = page_of(networks, weights, config)
        address, port = door.getsockname()[:2]
        if not ip_address(address).is_loopback:
            log.warning(
                "host=%s: whoever reaches this machine can use the page; there is no password",
                config.host,
            )
        host = f"[{address}]" if ":" in address else address
        log.info("http://%s:%d shows %s; Ctrl-C ends it", host, port, about)
        serve(app, door)


def _checked(config: DictConfig) -> list[str]:
    """Return the weights to choose from."""
    several = isinstance(config.weights, ListConfig)
    weights = [str(word) for word in (config.weights if several else [config.weights])]
    if not weights:
        raise UserError("weights=[]: expected a run, or several as [runs/a,runs/b]")
    for word in weights:  # the first is loaded now, the others when they are chosen
        if (folder := run_of(word)) is not None:
            checkpoint_of(folder)
    check_prediction(config)
    for key, least, most in (("top", 1, sys.maxsize), ("port", 0, _LAST_PORT)):
        if type(config[key]) is not int or not least <= config[key] <= most:
            range_ = f"of {least} or more" if most == sys.maxsize else f"from {least} to {most}"
            raise UserError(f"{key}={config[key]}: expected a whole number {range_}")
    return list(dict.fromkeys(weights))


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens at an address; nobody else can take it before the page is there.

    Raises:
        UserError: the port is in use or not for us, or this machine has no such address.
    """
    try:
        door = _bound(host, port)
    except (socket.gaierror, UnicodeError) as error:
        reason = "there is no such address"
        raise UserError(f"host={host}: {reason}; 127.0.0.1 is this machine's") from error
    except OSError as error:
        free, reason = _free_port(host, port), os.strerror(error.errno or 0).lower()
        if free is None:
            raise UserError(f"host={host}: {reason}; 127.0.0.1 is this machine's") from error
        raise UserError(f"port={port}: {reason}; port={free} is free") from error
    with door:
        yield door


def _bound(host: str, port: int) -> socket.socket:
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family)


def _free_port(host: str, port: int) -> int | None:
    """Return the next port that is free, or any; None where none of this host is."""
    for candidate in (*range(port + 1, min(port + 100, _LAST_PORT + 1)), 0):
        with suppress(OSError), _bound(host, candidate) as door:
            return door.getsockname()[1]
    return None


@contextmanager
def _own_folder() -> Iterator[None]:
    """Give Gradio a folder for what it is sent and shows, which is gone in the end.

    Signals end the block; Gradio itself would leave everything in the folder of temporary files.
    """

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    with TemporaryDirectory(prefix="compound-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        # Neither news about us nor news for us.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        yield
