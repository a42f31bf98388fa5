"""Run ``tools/compare.py`` and keep what it found.

``uv run benchmarks/training_time.py NAME [overrides of tools/compare.py]`` writes
``results/NAME.json``: command, commit, machine, versions, and all measurements.
``docs/training_time.md`` is made of all such results.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import provenance

RESULTS = provenance.RESULTS
PAGE = provenance.ROOT / "docs/training_time.md"


def main() -> None:
    """Run, keep the result, write the page."""
    name, *overrides = sys.argv[1:] or [""]
    if not name or "=" in name:
        raise SystemExit("usage: uv run benchmarks/training_time.py NAME [overrides]")
    commit = provenance.commit()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(provenance.ROOT / "tools/compare.py"), *overrides]
        done = subprocess.run([*command, f"hydra.run.dir={folder}"], check=False)
        found = Path(folder, "compare.json")
        if not found.is_file():
            raise SystemExit(done.returncode)
        content = json.loads(found.read_text())
        # Of the machine's folders nobody else has any use.
        plan = content.get("plan", {})
        plan.pop("command", None)
        if "overrides" in plan:
            plan["overrides"] = [provenance.without_folders(o) for o in plan["overrides"]]
    told = {"comparison": provenance.shown("compare.py", overrides)}
    provenance.keep(RESULTS / f"{name}.json", told, content, at=commit)
    PAGE.write_text(_page())
    raise SystemExit(done.returncode)


def _page() -> str:
    """Return what all comparisons found."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    parts = ["# Training time", "", "Written by `benchmarks/training_time.py`.", ""]
    for name, result in results.items():
        if "comparison" in result:
            parts += [f"## {name}", "", f"`{result['comparison']}` on {result['machine']}, torch "
                      f"{result['versions']['torch']}; [all measurements]"
                      f"(../benchmarks/results/{name}.json)", ""]  # fmt: skip
            for table in result["tables"]:
                lines = provenance.table(table["columns"], table["rows"])
                parts += [f"{table['title']}:", "", *lines, ""]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
