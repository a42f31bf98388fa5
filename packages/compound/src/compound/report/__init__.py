"""Pages of curves, tables and images."""
