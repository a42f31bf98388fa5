"""Checks of image files that hold for every task."""
