"""What the documents show is run, or at least understood: Python blocks, commands, files that they name."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from hf_warmup.cli import app


ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("**/README.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = [text for kind, text in BLOCK.findall((ROOT / "README.md").read_text()) if kind == "python"]


def commands() -> list[str]:
    shells = [text for path in DOCUMENTS for kind, text in BLOCK.findall(path.read_text()) if kind == "bash"]
    lines = [line.split(" #")[0].strip() for text in shells for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in dict.fromkeys(lines) if line]


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs_as_it_stands(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line: str) -> None:
    words = shlex.split(line)
    for place in (word for word in words if word.startswith("recipes/")):
        assert (ROOT / place).exists(), place
    if "-m" in words and "hf_warmup" in words:
        words = ["hf-warmup", *words[words.index("hf_warmup") + 1 :]]
    if words[0] != "hf-warmup":
        return
    command: click.Command = typer.main.get_command(app)
    arguments = words[1:]
    while isinstance(command, click.Group):
        name, *arguments = arguments
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"there is no command {name}"
        command = found
    # `...` stands for more of the same kind.
    command.make_context(command.name, [word for word in arguments if word != "..."])


def test_there_is_something_to_test() -> None:
    assert len(PYTHON) >= 4
    assert sum(line.startswith("hf-warmup") for line in commands()) >= 6
