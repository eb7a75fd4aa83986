"""The command line: parsing and printing only; nobody imports it."""

from hf_warmup.cli.application import app, main


__all__ = ["app", "main"]
