"""A Hub on loopback for the session, clients of it, and a checkpoint to publish."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_process import USERS, Client
from hub_server import HubServer


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


@pytest.fixture
def fresh_client(hub: HubServer, tmp_path: Path) -> Iterator[Client]:
    """A client that has just been started, with nothing in its cache."""
    home = tmp_path / "home"
    home.mkdir()
    client = Client(hub, home)
    yield client
    client.close()
