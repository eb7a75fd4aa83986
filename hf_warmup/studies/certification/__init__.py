"""Certified training: methods x seeds, each model proven and attacked on the test split."""
