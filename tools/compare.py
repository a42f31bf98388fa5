"""``uv run tools/compare.py key=value ...`` is ``compound compare key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("compare")
