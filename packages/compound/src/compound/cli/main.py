"""``compound <verb> key=value ...``; ``tools/<verb>.py`` are the same verbs from a checkout."""

import sys

from compound import __version__
from compound.cli.config import config
from compound.cli.help import purpose_of
from compound.cli.launch import mistakes_told, run
from compound.errors import closest

VERBS = (
    "train", "evaluate", "predict", "export", "convert", "demo", "average", "doctor", "compare",
    "benchmark", "describe",
)  # fmt: skip


def main(verb: str | None = None) -> None:
    """Run a verb with the command line's settings.

    Args:
        verb: name of one; None takes the command line's first word.
    """
    arguments = sys.argv[1:]
    if verb is None:
        verb, *arguments = arguments or ["--help"]
    if verb in ("-h", "--help", "help"):
        with mistakes_told():
            print(_overview())
    elif verb in ("-V", "--version"):
        print(f"compound {__version__}")
    elif verb == "config":
        with mistakes_told():
            config(arguments)
    else:
        with mistakes_told():
            closest(verb, [*VERBS, "config"], what="verb")
        run(verb, arguments)


def _overview() -> str:
    purposes = {verb: purpose_of(verb).rstrip(".").partition(";")[0] for verb in VERBS}
    purposes["config"] = "Show the configuration files, or copy one to change it"
    lines = [f"  {verb:<10}  {purpose}" for verb, purpose in purposes.items()]
    return "\n".join([
        "Train, evaluate, export and compare networks.",
        "",
        "usage: compound <verb> key=value ...",
        "",
        *lines,
        "",
        "compound <verb> --help   shows the keys and choices of a verb",
        "compound --version       shows the version",
    ])  # fmt: skip
