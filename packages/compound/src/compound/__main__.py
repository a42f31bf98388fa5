"""``python -m compound`` is the command ``compound``."""

from compound.cli.main import main

if __name__ == "__main__":
    main()
