"""``uv run tools/predict.py key=value ...`` is ``compound predict key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("predict")
