"""Time and memory of steps and loaders."""
