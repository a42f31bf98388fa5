"""Configurations of the task ``reg``."""
