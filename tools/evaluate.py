"""``uv run tools/evaluate.py key=value ...`` is ``compound evaluate key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("evaluate")
