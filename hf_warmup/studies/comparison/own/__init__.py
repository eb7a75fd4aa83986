"""Comparisons of anybody's own run: a Python function, a Trainer from a factory, an unmodified script."""
