"""Us and a peer side by side: the same work in turns, so that drift cancels.

``uv run benchmarks/speed.py [NAMES] [--device cpu|cuda]`` runs what ``peers/`` holds, or what is
named of it, such as ``matching soft_nms``. Each writes ``results/speed_<name>_<device>.json``:
every time that was measured, versions, flags and machine. ``docs/speed.md`` is made of them all.
What needs the pictures of COCO reads them from ``COMPOUND_DATA`` and leaves its rows out without.
"""

import argparse
import json
import os
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

# Before torch: as the tools have it, for us and for the peers alike.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import provenance
import torch

from peers.side_by_side import Row

RESULTS = provenance.RESULTS
PAGE = provenance.ROOT / "docs/speed.md"
PEERS = (
    "effdet", "faster-coco-eval", "msgspec", "onnxruntime", "opencv-python-headless", "openvino",
    "pillow", "simplejpeg",
)  # fmt: skip


def main() -> None:
    """Measure, keep the results, write the page."""
    peers = Path(__file__).parent / "peers"
    names = sorted(path.stem for path in peers.glob("*.py") if path.stem != "side_by_side")
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=f"of {', '.join(names)}; all if none is named")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(names))
    if unknown:
        parser.error(f"{unknown[0]} is not there; there are {', '.join(names)}")
    for name in arguments.names or names:
        module = import_module(f"peers.{name}")
        rows: list[Row] = list(module.measure(arguments.device))
        for row in rows:
            print(row, flush=True)
        if rows:
            _keep(f"speed_{name}_{arguments.device}", str(module.__doc__), rows)
    PAGE.write_text(_page())


def _keep(name: str, docstring: str, rows: list[Row]) -> None:
    found = {
        "device": torch.cuda.get_device_name() if name.endswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "rows": [asdict(row) | {"ratio": row.ratio} for row in rows],
    }
    told = {"speed": docstring.strip()}
    provenance.keep(RESULTS / f"{name}.json", told, found, peers=PEERS)


def _page() -> str:
    """Return the tables of all results."""
    parts = [
        "# Speed", "",
        "Written by `benchmarks/speed.py`. Ours and the peer's took turns, with the same threads; "
        "each ratio is of two medians, above 1 in our favour. Where the two do not do the very "
        "same, it is said. What is asked is the ratio that this project aims at; less is not "
        "there yet.", "",
    ]  # fmt: skip
    for path in sorted(RESULTS.glob("speed_*.json")):
        result: dict[str, Any] = json.loads(path.read_text())
        title, _, text = result["speed"].partition("\n")
        name = path.stem.removeprefix("speed_").rpartition("_")[0]
        flag = " --device cuda" if path.stem.endswith("cuda") else ""
        parts += [
            f"## {title.rstrip('.')}", "", text.strip(), "",
            f"`uv run benchmarks/speed.py {name}{flag}`, {result['device']}, {result['threads']} "
            f"threads, {result['machine']}, torch {result['versions']['torch']}; "
            f"[all measurements](../benchmarks/results/{path.name})", "",
            *provenance.table(
                ("what", "ours", "against", "theirs", "ratio", "asked"),
                map(_cells, result["rows"]),
            ), "",
        ]  # fmt: skip
    return "\n".join(parts)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ours, theirs = (f"{row[key]:.3g} {row['unit']}" for key in ("ours", "theirs"))
    asked = "" if row["asked"] is None else f"{row['asked']:g}"
    return row["what"], ours, row["against"], theirs, f"{row['ratio']:.3g}", asked


if __name__ == "__main__":
    main()
