"""``compound <verb> key=value ...``; ``tools/<verb>.py`` are the same verbs from a checkout."""

import sys
from importlib import import_module

from compound.cli.launch import mistakes_told, run

VERBS = (
    "train", "evaluate", "predict", "export", "convert", "demo", "average", "doctor", "compare",
    "benchmark", "describe",
)  # fmt: skip


def main(verb: str | None = None) -> None:
    """Run a verb with the command line's overrides.

    Args:
        verb: name of one; None takes the command line's first word.
    """
    if verb is None:
        if len(sys.argv) < 2 or sys.argv[1] not in VERBS:
            known = "-h" in sys.argv or "--help" in sys.argv
            print(f"usage: compound <verb> key=value ...\nverbs: {', '.join(VERBS)}")
            sys.exit(0 if known else 2)
        verb = sys.argv.pop(1)
    module = import_module(f"compound.cli.{verb}")
    with mistakes_told():
        sys.argv += getattr(module, "settled", lambda arguments: [])(sys.argv[1:])
    run(verb, getattr(module, verb))
