"""Tests that cross packages see the tools as Python sees them when they are run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
