"""The process that `processes.Nursery` talks to: a pickled job in, a pickled answer out.

It has imported all that jobs need and does nothing itself, so that each job can be a fork of it:
as fresh as a new process, without the seconds that imports take.
"""

import os
import pickle
import sys
import tempfile
from pathlib import Path

from compound.compare.contest import find_contest
from compound.compare.jobs import Job
from compound.compare.processes import Answer


def main(contest: str) -> None:
    """Answer until there are no more jobs."""
    find_contest(contest)  # imports what its jobs need
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        with tempfile.TemporaryDirectory() as folder:
            answer = _answer(job, Path(folder))
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.flush()


def _answer(job: Job, folder: Path) -> Answer:
    """Return how a job's process ended, what it wrote to stderr, and its result."""
    child = os.fork()
    if child == 0:
        _work(job, folder)
    _, status = os.waitpid(child, 0)
    result = folder / "result.pickle"
    return Answer(
        os.waitstatus_to_exitcode(status),
        (folder / "stderr").read_text(errors="replace"),
        pickle.loads(result.read_bytes()) if result.is_file() else None,
    )


def _work(job: Job, folder: Path) -> None:
    """Do a job in the forked process, which ends here whatever happens."""
    status = 1
    try:
        # What native code says goes there too; what it prints must not look like an answer.
        said = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        images = folder / "images"
        images.mkdir()
        (folder / "result.pickle").write_bytes(pickle.dumps(job.measure(images)))
        status = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
