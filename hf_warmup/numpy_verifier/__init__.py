"""Certificates proven again with NumPy and the standard library alone; nothing of the rest of the package is used."""
