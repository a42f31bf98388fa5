"""COCO and VOC average precision, and what is behind it."""
