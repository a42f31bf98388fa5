"""Run a training, time it, and write what it reached.

``uv run benchmarks/train.py NAME [overrides of tools/train.py]`` writes ``results/NAME.json``:
command, seed, commit, machine, versions, wall time and the scores of the split that was scored
last: the test split where there is one, else the best epoch on the validation split; and the
validation scores by the minute. The table in
``results/README.md`` is made of all results. Drawn pictures are drawn anew, within the wall time.
"""

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import provenance

ROOT, RESULTS = provenance.ROOT, provenance.RESULTS
# What a run is judged by, and what the table shows.
GOALS = ("mAP", "top1")
SHOWN = ("mAP", "AP50", "top1", "top5")


def main() -> None:
    """Run, read the run's metrics, write the result."""
    name, *overrides = sys.argv[1:] or [""]
    if not name or "=" in name:
        raise SystemExit("usage: uv run benchmarks/train.py NAME [overrides of tools/train.py]")
    commit = provenance.commit()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "tools/train.py"), *overrides]
        started, began = time.monotonic(), datetime.now()
        subprocess.run(
            [*command, f"hydra.run.dir={folder}"],
            check=True,
            cwd=ROOT,
            env=os.environ | {"COMPOUND_CACHE": f"{folder}/cache"},
        )
        seconds = time.monotonic() - started
        with Path(folder, "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        config = Path(folder, "config.yaml").read_text()
        curve = _curve(Path(folder, "train.log").read_text(), began)
    seed = next(line.split()[1] for line in config.splitlines() if line.startswith("seed:"))
    told = {"command": provenance.shown("train.py", overrides), "seed": int(seed)}
    found = {
        "wall_seconds": round(seconds, 1),
        "scores": _scores(rows),
        "validation_by_minute": curve,
    }
    path = RESULTS / f"{name}.json"
    provenance.keep(path, told, found, at=commit)
    (RESULTS / "README.md").write_text(_table())
    print(f"wrote {path.relative_to(ROOT)}")


def _table() -> str:
    lines = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        if "scores" not in result:  # another program's
            continue
        split = next(iter(result["scores"])).split("/")[0]
        shown = [f"{name} {result['scores'][f'{split}/{name}']:.3f}"
                 for name in SHOWN if f"{split}/{name}" in result["scores"]]  # fmt: skip
        lines.append(
            (f"[{path.stem}]({path.name})", f"`{result['command']}`", split, ", ".join(shown),
             f"{result['wall_seconds'] / 60:.1f}")
        )  # fmt: skip
    table = provenance.table(("result", "command", "split", "scores", "minutes"), lines)
    return "\n".join(["# Results", "", "Written by `benchmarks/train.py`.", "", *table, ""])


def _scores(rows: list[dict[str, str]]) -> dict[str, float]:
    goal = next(name for name in GOALS if f"val/{name}" in rows[0])
    for split in ("test", "val"):
        found = [row for row in rows if row.get(f"{split}/{goal}")]
        if found:
            row = max(found, key=lambda row: float(row[f"{split}/{goal}"]))
            return {k: round(float(v), 4) for k, v in row.items() if k.startswith(split) and v}
    raise SystemExit("the run was never scored")


def _curve(log: str, began: datetime) -> list[dict[str, float]]:
    """Return the scores that the log gives epoch by epoch, with the minutes since the start."""
    points = []
    for line in log.splitlines():
        stamp = re.match(r"\[(\d+-\d+-\d+ \d+:\d+:\d+),\d+\].* epoch \d+/\d+ ", line)
        if stamp:
            passed = datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S") - began
            scores = {name: float(value) for name, value in re.findall(r"val/(\w+) ([\d.]+)", line)}
            points.append({"minutes": round(passed.total_seconds() / 60, 1)} | scores)
    return points


if __name__ == "__main__":
    main()
