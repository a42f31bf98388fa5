"""Peak memory of one training step of every detector at its published size.

``uv run benchmarks/memory.py`` measures each setting in a process of its own: on a GPU the peak of
PyTorch's allocator, on a CPU the peak resident size less what was there before the step. It
writes ``results/memory.json`` and ``docs/memory.md``. On a CPU a step may take ``LIMIT_GB``; what
three times the memory of one picture rules out is not tried with four. Names on the command line
restrict it to those: ``uv run benchmarks/memory.py d0 lite0``.
"""

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/memory.json"
LIMIT_GB = 16
# Name in the table: precision, parts that are computed again.
SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "32 bits": ("32-true", ()),
    "32 bits, recomputed": ("32-true", ("backbone", "bifpn", "heads")),
    "bf16, recomputed": ("bf16-mixed", ("backbone", "bifpn", "heads")),
}


def main() -> None:
    """Measure what the command line names, or all, and write the table."""
    from efficientdet.specs import EFFICIENTDET

    wanted = [f"efficientdet_{name}" for name in sys.argv[1:]] or list(EFFICIENTDET)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in wanted:
        row: dict[str, float | None] = {}
        for setting in SETTINGS:
            one = _measured(name, setting, 1)
            hopeless = one is None or 3 * one > LIMIT_GB
            row[f"{setting}, batch 1"] = one
            row[f"{setting}, batch 4"] = None if hopeless else _measured(name, setting, 4)
        results.setdefault("gigabytes", {})[name] = row
        print(name, results["gigabytes"][name], flush=True)
        results |= _machine()
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    (ROOT / "docs/memory.md").write_text(_page(results))


def _measured(name: str, setting: str, batch: int) -> float | None:
    """Return gigabytes, or None where they do not suffice."""
    command = [sys.executable, __file__, "--step", name, setting, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return round(float(done.stdout.split()[-1]), 2)
    if "can't allocate memory" in done.stderr or "CUDA out of memory" in done.stderr:
        return None
    raise SystemExit(done.stderr)


def step(name: str, setting: str, batch: int) -> float:
    """Return the gigabytes that one training step takes at its peak."""
    import torch

    from compound.profiling.memory import Peak, limit_data
    from efficientdet import create_model
    from efficientdet.loss import detection_loss
    from efficientdet.matcher import assign

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    precision, parts = SETTINGS[setting]
    torch.manual_seed(0)
    model = create_model(name).train().to(device)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.recompute(parts)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.randint(0, 256, (batch, 3, *model.image_size), dtype=torch.uint8, device=device)
    boxes = [torch.tensor([[50.0, 60, 250, 300]], device=device)] * batch
    labels = [torch.zeros(1, dtype=torch.long, device=device)] * batch
    peak = Peak(device.type)
    if not cuda:
        limit_data(LIMIT_GB)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        class_logits, box_codes = model(model.normalize(images))
    targets = assign(model.anchors(images), boxes, labels)
    loss = detection_loss(class_logits, box_codes, targets)
    loss.total.backward()
    optimizer.step()
    return peak.gibibytes()


def _machine() -> dict[str, Any]:
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "device": where,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "limit_gigabytes": LIMIT_GB,
        "date": time.strftime("%Y-%m-%d"),
    }


def _page(results: dict[str, Any]) -> str:
    on_cpu = results["device"] == "CPU"
    how = (
        "peak resident memory of a process less what it had before the step"
        if on_cpu
        else "peak of PyTorch's allocator, weights and optimizer included"
    )
    columns = [f"{setting}, batch {batch}" for setting in SETTINGS for batch in (1, 4)]
    lines = [
        "# Memory",
        "",
        f"Written by `uv run benchmarks/memory.py`. GiB of one training step (SGD) at the "
        f"published size, measured on a {results['device']} with torch {results['torch']}: {how}.",
        "Empty cells take more than "
        + (f"{results['limit_gigabytes']} GiB." if on_cpu else "the card has."),
        "",
        "Recomputed is `task.recompute=[backbone,bifpn,heads]`; bf16 is "
        "`trainer.precision=bf16-mixed`. `trainer.accumulate_grad_batches=16` makes a step of 16",
        "such batches at the memory of one; batch norms still see one, which for few pictures asks",
        "for `callbacks.batch_norm.freeze_from=0` (frozen statistics) or, on several GPUs,",
        "`trainer.sync_batchnorm=true`.",
        "",
        "| network | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in results["gigabytes"].items():
        cells = ["" if row[c] is None else f"{row[c]:.1f}" for c in columns]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(step(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        main()
