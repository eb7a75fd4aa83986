"""What is published, and what is left behind, when the Hub or the connection to it breaks."""

from dataclasses import replace
from pathlib import Path

import pytest
from hub_process import ODD, USERS, WRITER, Client, held, num_commits, on_disk
from hub_server import Fault, HubServer


REPOSITORY = "lab/tiny-digits"
Made = tuple[Path, Path]

ALWAYS = 1000
PASSING = {
    "who: 503": Fault("GET", "whoami", "status", 503),
    "look: 500": Fault("GET", "/api/models/", "status", 500),
    "look: cut": Fault("GET", "/tree/", "cut"),
    "make: 500": Fault("POST", "/repos/create", "status", 500),
    "make: answer lost": Fault("POST", "/repos/create", "lost"),
    "announce: 500, four times": Fault("POST", "/preupload/", "status", 500, times=4),
    "batch: 503": Fault("POST", "/objects/batch", "status", 503),
    "upload: 500": Fault("PUT", "/upload/", "status", 500, times=2),
    "upload: cut": Fault("PUT", "/upload/", "cut", times=2),
    "upload: slow": Fault("PUT", "/upload/", "delay"),
    "verify: 502": Fault("POST", "/verify/", "status", 502),
    "commit: 500": Fault("POST", "/commit/", "status", 500),
    "commit: cut": Fault("POST", "/commit/", "cut"),
    "commit: made, answer lost": Fault("POST", "/commit/", "lost"),
    "commit: somebody was faster": Fault("POST", "/commit/", "status", 412),
    "check: lost": Fault("GET", "/tree/", "lost", skip=1),
}
LASTING = {
    "who: 503": (Fault("GET", "whoami", "status", 503, times=ALWAYS), "does not work as it should"),
    "make: 500": (Fault("POST", "/repos/create", "status", 500, times=ALWAYS), "Nothing was published."),
    "announce: 500": (
        Fault("POST", "/preupload/", "status", 500, times=ALWAYS),
        "was made, but nothing was published",
    ),
    "upload: 500": (Fault("PUT", "/upload/", "status", 500, times=ALWAYS), "(500"),
    "upload: cut": (Fault("PUT", "/upload/", "cut", times=ALWAYS), "failed or broke"),
    "upload: one of two": (Fault("PUT", "/upload/", "cut", skip=1, times=ALWAYS), "failed or broke"),
    "upload: corrupt": (Fault("PUT", "/upload/", "corrupt"), "does not match its SHA-256"),
    "commit: 503": (Fault("POST", "/commit/", "status", 503, times=ALWAYS), "Whether the commit has arrived"),
    "commit: cut": (Fault("POST", "/commit/", "cut", times=ALWAYS), "Whether the commit has arrived"),
    "commit: 412": (Fault("POST", "/commit/", "status", 412, times=ALWAYS), "somebody else is changing"),
    "commit: 413": (Fault("POST", "/commit/", "status", 413), "refused what was sent (413"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_pass_are_got_over(fault: str, hub: HubServer, client: Client, made: Made) -> None:
    broken = replace(PASSING[fault])
    hub.faults.append(broken)
    reply = client("publish", folder=str(made[1]), repo_id=REPOSITORY)
    assert broken.seen > broken.skip, "the fault never struck"
    assert reply.error is None
    assert "Published in one commit" in reply.printed
    assert held(hub, REPOSITORY) == on_disk(made[1])
    assert num_commits(hub, REPOSITORY) == 1


@pytest.mark.parametrize("fault", LASTING)
def test_faults_that_last_leave_nothing_half_published(fault: str, hub: HubServer, client: Client, made: Made) -> None:
    broken, message = LASTING[fault]
    hub.faults.append(replace(broken))
    reply = client("publish", folder=str(made[1]), repo_id=REPOSITORY)
    assert str(reply.error).startswith("ConfigError: ")
    assert message in str(reply.error)
    assert not hub.store.repositories or held(hub, REPOSITORY) == {}
    hub.faults.clear()
    assert client("publish", folder=str(made[1]), repo_id=REPOSITORY).error is None
    assert held(hub, REPOSITORY) == on_disk(made[1])


def test_nobody_elses_commit_is_overwritten_unseen(hub: HubServer, client: Client, made: Made) -> None:
    ada = hub.store.users[WRITER]
    repository = hub.store.create("models", REPOSITORY, ada, private=False)
    theirs = [b'{"key": "file", "value": {"path": "tokenizer.json", "content": ""}}']
    # Between the look at an empty repository and the commit that follows from it.
    race = Fault("POST", "/preupload/", "meanwhile", happens=lambda: hub.store.change(repository, "main", theirs))
    hub.faults.append(race)
    reply = client("publish", folder=str(made[1]), repo_id=REPOSITORY)
    assert "holds something else (tokenizer.json" in str(reply.error)
    assert held(hub, REPOSITORY) == {"tokenizer.json": b""}


def test_commit_that_holds_other_bytes_is_an_error(hub: HubServer, client: Client, made: Made) -> None:
    def spoil() -> None:
        for oid, content in hub.store.objects.items():
            hub.store.objects[oid] = content[:-1] + bytes([content[-1] ^ 1])

    hub.faults.append(Fault("POST", "/commit/", "meanwhile", happens=spoil))
    reply = client("publish", folder=str(made[1]), repo_id=REPOSITORY)
    assert "model.safetensors, radius.png differ from what was sent" in str(reply.error)


@pytest.mark.parametrize("token", [WRITER, ODD])
def test_what_the_hub_says_is_passed_on_without_the_token(
    token: str, hub: HubServer, client: Client, made: Made
) -> None:
    hub.faults.append(Fault("POST", "/commit/", "status", 400, message=f"odd request by {token}"))
    reply = client("publish", folder=str(made[1]), repo_id=REPOSITORY, token=token)
    assert "odd request by ***" in str(reply.error)
    # The client's error stream, too, has never held one; its other answers are looked at as they come.
    assert not [token for token in USERS if token in client.errors()]


def test_no_hub_at_all(client: Client, made: Made) -> None:
    reply = client("publish_to", url="http://127.0.0.1:9", folder=str(made[1]), repo_id=REPOSITORY)
    assert "the connection to http://127.0.0.1:9 failed" in str(reply.error)
    assert "Nothing was published." in str(reply.error)
