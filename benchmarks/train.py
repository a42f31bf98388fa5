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
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
# What a run is judged by, and what the table shows.
GOALS = ("mAP", "top1")
SHOWN = ("mAP", "AP50", "top1", "top5")
PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "albumentations", "pycocotools")


def main() -> None:
    """Run, read the run's metrics, write the result."""
    name, *overrides = sys.argv[1:] or [""]
    if not name or "=" in name:
        raise SystemExit("usage: uv run benchmarks/train.py NAME [overrides of tools/train.py]")
    commit = _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain") else "")
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
    shown = [_without_folders(override) for override in overrides]
    result = {
        "command": " ".join(["uv run tools/train.py", *shown]),
        "seed": int(seed),
        "commit": commit,
        "wall_seconds": round(seconds, 1),
        "scores": _scores(rows),
        "validation_by_minute": curve,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "README.md").write_text(_table())
    print(f"wrote {path.relative_to(ROOT)}")


def _table() -> str:
    lines = ["| result | command | split | scores | minutes |", "|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        if "command" not in result:  # another program's
            continue
        split = next(iter(result["scores"])).split("/")[0]
        shown = [f"{name} {result['scores'][f'{split}/{name}']:.3f}"
                 for name in SHOWN if f"{split}/{name}" in result["scores"]]  # fmt: skip
        lines.append(
            f"| [{path.stem}]({path.name}) | `{result['command']}` | {split} | {', '.join(shown)} "
            f"| {result['wall_seconds'] / 60:.1f} |"
        )
    return "\n".join(["# Results", "", "Written by `benchmarks/train.py`.", "", *lines, ""])


def _scores(rows: list[dict[str, str]]) -> dict[str, float]:
    goal = next(name for name in GOALS if f"val/{name}" in rows[0])
    for split in ("test", "val"):
        found = [row for row in rows if row.get(f"{split}/{goal}")]
        if found:
            row = max(found, key=lambda row: float(row[f"{split}/{goal}"]))
            return {k: round(float(v), 4) for k, v in row.items() if k.startswith(split) and v}
    raise SystemExit("the run was never scored")


def _without_folders(override: str) -> str:
    """Return an override with the last part of a path, which is all that others can use."""
    key, _, value = override.partition("=")
    return f"{key}=<{Path(value).name}>" if "/" in value else override


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


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
