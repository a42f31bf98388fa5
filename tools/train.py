"""``uv run tools/train.py key=value ...`` is ``compound train key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("train")
