"""V1 against V2 in training time."""
