"""Tests that cross packages see tools, benchmarks and each other's parts as programs do."""

import sys
from pathlib import Path

for folder in ("tools", "benchmarks", "tests"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
