"""Runs tools as a user does, in processes that have the seconds of importing behind them.

A server imports what all tools need, and forks a process for every call. Each has its own working
folder, arguments, environment and streams, and ends as the tool does.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAVY = (
    "compound.cli.launch",  # first: it sets what libraries read when they are loaded
    "hydra.utils",
    "torch",
    "pytorch_lightning.loggers",
    "tensorboard",
    "wandb",
    "backbone.classification.module",
    "efficientdet.module",
    "efficientdet.data.splits",
    "efficientnetv2.module",
)


def run_alone(tool: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Do the same in a process that imports all by itself, as W&B's service needs it."""
    call = [sys.executable, str(ROOT / "tools" / tool), *arguments]
    # Not with the service of the tests' own process, to which the runs of all would belong.
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return subprocess.run(call, cwd=folder, env=own, capture_output=True, text=True, check=False)


def run_tool(tool: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``tools/<tool>`` in a folder; return what it said and its exit code.

    Not for what W&B wrote: its service does not survive the fork in good order.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as streams:
        out, err = Path(streams, "out"), Path(streams, "err")
        call = [str(ROOT / "tools" / tool), *arguments]
        server.stdin.write(json.dumps([str(folder), str(out), str(err), dict(os.environ), call]))
        server.stdin.write("\n")
        server.stdin.flush()
        code = server.stdout.readline()
        assert code, "the server has ended"
        return subprocess.CompletedProcess(call, int(code), out.read_text(), err.read_text())


@cache
def _server() -> subprocess.Popen[str]:
    """Return the server, which ends with its standard input."""
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _serve() -> None:
    for name in HEAVY:
        import_module(name)
    for line in sys.stdin:
        folder, out, err, environment, call = json.loads(line)
        child = os.fork()
        if not child:
            _become(folder, out, err, environment, call)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(folder: str, out: str, err: str, environment: dict[str, str], call: list[str]) -> None:
    """Be the tool, to its end."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    flags = os.O_WRONLY | os.O_CREAT
    for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, os.open(out, flags)),
                         (2, os.open(err, flags))):  # fmt: skip
        os.dup2(file, stream)
    sys.argv[:] = call
    runpy.run_path(call[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    _serve()
