"""How bright is it: the smallest useful third task."""
