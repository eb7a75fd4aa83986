"""What the documents show is run, or at least understood: Python blocks, commands, files that they name."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from hf_warmup.cli.application import app
from hf_warmup.hub.checkpoint import check_checkpoint


ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("**/README.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text())
# What needs a Hub is run in hub/test_readme_on_the_hub.py.
PYTHON = [text for kind, text in BLOCKS if kind == "python" and "ORG/" not in text]


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


@pytest.mark.parametrize(
    "folder", sorted(p.parent for p in ROOT.glob("model_cards/*/results.json")), ids=lambda p: p.name
)
def test_checkpoints_are_listed_with_their_numbers(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    shares = [f"{100 * results['scores'][key]['accuracy']:.2f} %" for key in ("verified", "pgd", "clean")]
    name = f"[{folder.name}](model_cards/{folder.name}/README.md)"
    row = f"| {name} | {results['data']['name']}, {results['eps']} | {' | '.join(shares)} |"
    assert row in (ROOT / "README.md").read_text().splitlines()
    check_checkpoint(folder)


def test_exponents_are_those_of_the_demonstrations() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    gap, noise = (
        json.loads((ROOT / "recipes" / "theory" / name / "results.json").read_text())["slopes"]
        for name in ("warmup_gap", "stochastic_gap")
    )
    low, high = gap["rule"]["interval_95"]
    assert f"fitted exponent {gap['rule']['slope']:.2f}, 95 % interval {low:.2f} to {high:.2f}" in readme
    (low, high), (later, latest) = noise["rule"]["interval_95"], noise["rule_large"]["interval_95"]
    assert (
        f"{noise['rule']['slope']:.2f}, {low:.2f} to {high:.2f}; from T = 1,000 on {later:.2f} to {latest:.2f}"
        in readme
    )
