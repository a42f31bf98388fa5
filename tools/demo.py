"""``uv run tools/demo.py key=value ...`` is ``compound demo key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("demo")
