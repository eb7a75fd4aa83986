"""Certified training: what is minimized, where it starts and how the result is attacked and verified."""
