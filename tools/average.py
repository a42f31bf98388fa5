"""``uv run tools/average.py key=value ...`` is ``compound average key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("average")
