"""The guide's lines from a finished training to somebody else's machine, each run as it stands there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from hub_process import Client, held
from hub_server import HubServer


GUIDE = (Path(__file__).parents[2] / "recipes" / "guides" / "publishing.md").read_text()
BLOCKS = re.findall(r"^<!-- hub -->\n```(\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
NAME = "cnn-small-digits-eps0.1"


@pytest.fixture
def home(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A folder in which a training has ended."""
    shutil.copytree(made[0], tmp_path / "runs" / "digits_certified")
    return tmp_path


def test_every_line_does_what_it_says(hub: HubServer, client: Client, home: Path) -> None:
    assert [kind for kind, _ in BLOCKS] == ["bash", "python"]
    lines = [line.replace("ORG", "lab") for line in BLOCKS[0][1].splitlines()]
    assert len(lines) == 6
    replies = []
    for line in lines:
        replies.append(client("command", words=shlex.split(line), folder=str(home)))
        assert (replies[-1].error, replies[-1].value) == (None, 0), (line, replies[-1])
    packaged, planned, published, listed, verified, certificate = (reply.printed for reply in replies)
    assert NAME in packaged
    assert "Nothing was sent" in planned
    assert "Published in one commit" in published
    assert {path.name for path in (home / NAME).iterdir()} == set(held(hub, f"lab/{NAME}"))
    assert "lab/cnn" in listed
    assert "Hub" in listed
    assert "1/50" in listed, "the numbers stand in the card's metadata"
    assert "the card is true on all" in verified
    assert certificate.startswith("Holds:")
    # And on a machine that has nothing of it yet.
    assert client.elsewhere("python", code=BLOCKS[1][1].replace("ORG", "lab"), token=None).error is None
