"""``uv run tools/convert.py key=value ...`` is ``compound convert key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("convert")
