"""Documents as a newcomer meets them: their code blocks in order, run in one folder that looks like the repository."""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import typer

from hf_warmup import cli
from hf_warmup.cli.application import app


ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^(?:<!-- (\S+) -->\n)?(`{3,4})(\w+)\n(.*?)^\2$", re.MULTILINE | re.DOTALL)
# Commands that take minutes are run with overrides of their own: the same parts, fewer updates.
SHORT = {
    "compare": [
        *("training.num_training_steps=3", "training.on_short_run=warn", "tuned_warmup_steps=2", "seeds=[0]"),
        *("plan=null", "threads=null"),
    ],
    "train": ["training.epochs=1", "training.ramp_epochs=1", "data.train_examples=128", "seeds=[0]"],
    "certify": ["--examples", "20", "--pgd-steps", "2"],
}
# Programs that a document may name besides this package's own; what they do is not ours to test.
OTHERS = {"python3", ".", "pip", "ruff", "export", "accelerate"}


@dataclass(frozen=True)
class Block:
    """A code block: its language, its text, and the mark in a comment before it, which says who else runs it."""

    kind: str
    text: str
    mark: str | None

    def lines(self) -> list[str]:
        """Commands, one by one, without comments and continuations."""
        whole = [line.split(" #")[0] for line in self.text.replace("\\\n", " ").splitlines()]
        found = [line.strip() for each in whole for line in each.split(" && ")]
        return [line for line in found if line and not line.startswith("#")]


def blocks(document: Path) -> list[Block]:
    """A document's code blocks in their order."""
    return [Block(kind, text, mark or None) for mark, _, kind, text in _BLOCK.findall(document.read_text())]


def words_of(line: str) -> list[str]:
    """A command; one that is launched on several processes becomes the plain one."""
    words = shlex.split(line)
    if "-m" in words and "hf_warmup" in words:
        return ["hf-warmup", *words[words.index("hf_warmup") + 1 :]]
    return words


def is_run(words: list[str]) -> bool:
    """Whether a newcomer can run a command offline: recipes are run on made-up data by the tests of recipes."""
    return words[0] == "hf-warmup" and not any(word.startswith("recipes/") for word in words)


def understand(words: list[str]) -> None:
    """Parse a command without running it; files that it names must be there.

    Raises:
        AssertionError, click.ClickException: if it would not be understood.
    """
    for place in (word for word in words if word.startswith("recipes/")):
        assert (ROOT / place).exists(), place
    if words[0] == "python":
        # The program's own help must know every option.
        text = (ROOT / words[1]).read_text()
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in text, f"{words[1]} has no {option}"
    elif words[0] != "hf-warmup":
        assert words[0] in OTHERS, f"nobody knows how to test {words[0]}"
    else:
        command: click.Command = typer.main.get_command(app)
        arguments = [word for word in words[1:] if word != "..."]
        while isinstance(command, click.Group):
            name, *arguments = arguments
            found = command.get_command(click.Context(command), name)
            assert found is not None, f"there is no command {name}"
            command = found
        command.make_context(command.name, arguments)


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command, shortened where it takes minutes."""
    monkeypatch.setattr(sys, "argv", [*words, *SHORT.get(words[1], [])])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)
