"""Tests that cross packages see tools and benchmarks as Python sees them when they are run."""

import sys
from pathlib import Path

for folder in ("tools", "benchmarks"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
