"""Data sets of classified images, and their augmentation."""
