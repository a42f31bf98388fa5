"""``uv run tools/describe.py key=value ...`` is ``compound describe key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("describe")
