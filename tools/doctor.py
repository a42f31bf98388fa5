"""``uv run tools/doctor.py key=value ...`` is ``compound doctor key=value ...``."""

from compound.cli.main import main

if __name__ == "__main__":
    main("doctor")
