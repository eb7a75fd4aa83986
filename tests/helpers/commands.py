"""`hf-warmup` called in this process."""

import sys

import pytest

from hf_warmup.cli import application as cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `hf-warmup` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["hf-warmup", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)
