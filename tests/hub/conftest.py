"""A Hub on loopback for the session, clients of it, and a checkpoint to publish."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_process import USERS, Client
from hub_server import HubServer

from hf_warmup.hub.packaging import package_checkpoint


@pytest.fixture(scope="session")
def _hub() -> Iterator[HubServer]:
    with HubServer(USERS) as hub:
        yield hub


@pytest.fixture
def hub(_hub: HubServer) -> HubServer:
    """The Hub, empty and without faults."""
    _hub.store.repositories.clear()
    _hub.store.objects.clear()
    _hub.faults.clear()
    _hub.requests.clear()
    return _hub


@pytest.fixture(scope="session")
def _client(_hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(_hub, tmp_path_factory.mktemp("client"))
    yield client
    client.close()


@pytest.fixture
def client(_client: Client, hub: HubServer) -> Client:
    """A client that has been running for some time."""
    return _client


@pytest.fixture(scope="session")
def stored(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in bfloat16 and in two files; whoever changes anything works on a copy."""
    out = tmp_path_factory.mktemp("zoo") / "tiny-digits-bf16"
    return package_checkpoint(made[0], "short_warmup--1", out, dtype="bfloat16", max_shard_size="2KB")
