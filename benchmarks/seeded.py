"""Check that a refactoring leaves seeded training runs bit for bit as they were.

``uv run benchmarks/seeded.py record`` runs one short training of each task and writes every logged
training loss and a digest of the final weights to ``results/seeded.json``;
``uv run benchmarks/seeded.py compare`` repeats them and fails on the first difference. Both are
only comparable on one machine: another processor or torch version rounds differently.
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import provenance
import torch

ROOT = provenance.ROOT
RESULT = provenance.RESULTS / "seeded.json"
SHORT = (
    "logger=csv",
    "report=false",
    "data.num_workers=0",
    "data.batch_size=4",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=2",
)
RUNS = {
    "cls": ("task=cls", "model=b0", "trainer.max_epochs=2"),
    "det": ("task=det", "model=d0", "trainer.max_epochs=2"),
    "clsv2": ("task=clsv2", "model=v2_b0", "trainer.max_epochs=4"),
}


def main() -> None:
    """Record the runs, or compare them with the recorded ones."""
    mode = "".join(sys.argv[1:])
    if mode not in ("record", "compare"):
        raise SystemExit("usage: uv run benchmarks/seeded.py record|compare")
    found = {name: _run(overrides) for name, overrides in RUNS.items()}
    if mode == "record":
        provenance.keep(RESULT, {}, {"runs": found})
        print(f"written to {RESULT}")
        return
    recorded = json.loads(RESULT.read_text())["runs"]
    differing = [name for name in RUNS if found[name] != recorded[name]]
    for name in RUNS:
        print(f"{name}: {'DIFFERS' if name in differing else 'equal'}, {found[name]['weights']}")
        if name in differing:
            print(f"  recorded {recorded[name]}\n  found    {found[name]}")
    if differing:
        raise SystemExit(1)


def _run(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Train; return losses, validation scores and a digest of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "tools/train.py"), *overrides, *SHORT]
        subprocess.run(
            [*command, f"hydra.run.dir={folder}"],
            check=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "2"},
            stdout=subprocess.DEVNULL,
        )
        with Path(folder, "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        kept = ("train/loss", "val/mAP", "val/top1", "val/loss")
        metrics = {key: [row[key] for row in rows if row.get(key)] for key in kept}
        state = torch.load(Path(folder, "checkpoints/last.ckpt"), weights_only=True)
        digest = hashlib.sha256()
        for name, tensor in sorted(state["state_dict"].items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return {
        "overrides": " ".join(overrides),
        "metrics": {key: values for key, values in metrics.items() if values},
        "weights": digest.hexdigest(),
    }


if __name__ == "__main__":
    main()
