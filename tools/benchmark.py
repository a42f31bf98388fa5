"""``uv run tools/benchmark.py key=value ...`` is ``compound benchmark key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("benchmark")
