"""Files that are damaged anywhere: every command that reads one answers in one line, or as if nothing had happened."""

import random
import shutil
from pathlib import Path

import pytest
from commands import call
from made_checkpoint import STUDY


# Nobody looks at a picture here.
pytestmark = pytest.mark.usefixtures("no_drawing")


COMPARISON = """
name: small
model:
  architecture: vit
  config: {hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16, patch_size: 4}
tasks: [{name: digits, kind: digits, splits: {validation: 100, test: 100}, train_examples: 200, target: 0.1}]
training: {num_training_steps: 1.5, batch_size: 8, beta2: 0.75, evaluate_every: 10}
tuned_warmup_steps: 4
learning_rates: [1.0e-3]
seeds: [0]
"""
# Each stops a run before it begins, so that what is tried here is reading alone.
STOPPED = {"compare": COMPARISON, "train": STUDY.replace("pgd: {steps: 5", "pgd: {steps: -1")}


def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> int:
    """Exit code; what goes wrong is one line for people, never a traceback."""
    code = call(monkeypatch, *arguments)
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    if code == 2:
        assert error.splitlines()[-1].startswith("hf-warmup: "), error
    return code


def damaged(content: bytes, seed: int) -> bytes:
    """A cut, a flipped byte, a doubled part or foreign bytes, somewhere."""
    draw = random.Random(seed)
    place = draw.randrange(len(content)) if seed % 2 else draw.randrange(min(200, len(content)))
    kind = seed % 4
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes([content[place] ^ draw.randrange(1, 256)]) + content[place + 1 :]
    if kind == 2:
        return content[:place] + content[max(0, place - 20) :]
    return content[:place] + bytes(draw.randrange(256) for _ in range(9)) + content[place:]


@pytest.mark.parametrize("command", sorted(STOPPED))
def test_damaged_studies(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    for seed in range(60):
        path.write_bytes(damaged(STOPPED[command].encode(), seed))
        out = tmp_path / "out"
        assert answer(monkeypatch, capsys, command, str(path), "--out", str(out)) == 2
        assert not out.exists()


@pytest.mark.parametrize(
    ("name", "count"),
    [("model.safetensors", 12), ("config.json", 12), ("preprocessor_config.json", 8), ("certificate.json", 24)],
)
def test_damaged_checkpoints(
    name: str,
    count: int,
    made: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(made[1], folder)
    content = (folder / name).read_bytes()
    for seed in range(count):
        (folder / name).write_bytes(damaged(content, seed))
        code = answer(monkeypatch, capsys, "verify-certificate", str(folder), "--examples", "1")
        assert code in (1, 2), "the certificate holds of nothing that was changed"
        if name == "model.safetensors":
            arguments = [str(folder / name), "--layout", "ctrain", "--out", str(tmp_path / "new")]
            assert answer(monkeypatch, capsys, "import", *arguments) == 2
            assert not (tmp_path / "new").exists()
        if name != "certificate.json" and seed < 6:
            arguments = [str(folder), "digits", "--eps", "1/50", "--examples", "2", "--method", "ibp"]
            assert answer(monkeypatch, capsys, "certify", *arguments, "--out", str(tmp_path / f"out{seed}")) in (0, 2)
