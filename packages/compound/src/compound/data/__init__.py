"""Loaders that repeat exactly, sampling, image files, and what a user points at."""
