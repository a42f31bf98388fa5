"""V1 against V2: what a training takes, by architecture and recipe (`tools/compare.py`)."""
