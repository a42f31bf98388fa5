"""The process that `processes.Nursery` talks to: a line with a job in, a line with its result out.

It has imported all that jobs need and does nothing itself, so that each job can be a fork of it:
as fresh as a new process, without the seconds that imports take.
"""

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compound.compare.jobs import LoaderJob, StepJob
from compound.compare.loading import measure_loader
from compound.compare.steps import measure_inference, measure_steps


def main() -> None:
    """Answer until there are no more jobs."""
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            answer = _answer(json.loads(line), Path(folder))
        print(json.dumps(answer), flush=True)


def _answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return how a job's process ended, what it said on stderr, and its result."""
    child = os.fork()
    if child == 0:
        _work(job, folder)
    _, status = os.waitpid(child, 0)
    result = folder / "result.json"
    return {
        "status": os.waitstatus_to_exitcode(status),
        "said": (folder / "stderr").read_text(errors="replace"),
        "result": json.loads(result.read_text()) if result.is_file() else None,
    }


def _work(job: dict[str, Any], folder: Path) -> None:
    """Do a job in the forked process, which ends here whatever happens."""
    status = 1
    try:
        # What native code says goes there too; what it prints must not look like an answer.
        said = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        (folder / "result.json").write_text(json.dumps(_measure(job)))
        status = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _measure(job: dict[str, Any]) -> object:
    if job["kind"] == "LoaderJob":
        return measure_loader(LoaderJob(**job["fields"]))
    steps = StepJob(**job["fields"])
    return asdict(measure_steps(steps)) if steps.learns else measure_inference(steps)


if __name__ == "__main__":
    main()
