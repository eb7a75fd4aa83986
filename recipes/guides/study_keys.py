"""Writes `study_keys.md`, which lies beside it, from the package's own classes."""

from pathlib import Path

from hf_warmup.records.files import write_text
from hf_warmup.studies.comparison.keys import guide


if __name__ == "__main__":
    write_text(Path(__file__).with_suffix(".md"), guide())
