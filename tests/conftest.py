"""Tests that cross packages see benchmarks and each other's parts as programs do."""

import sys
from pathlib import Path

for folder in ("benchmarks", "tests"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
