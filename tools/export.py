"""``uv run tools/export.py key=value ...`` is ``compound export key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("export")
