"""A framework that trains, evaluates, exports and compares networks by task."""

__version__ = "0.2.0"
