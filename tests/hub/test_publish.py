"""Publishing over the Hub's protocol: what arrives, what is refused, and what is left behind when something breaks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_process import READER, STRANGER, WRITER, Client, held, num_commits, on_disk
from hub_server import Fault, HubServer

from hf_warmup.hub.checkpoint import check_checkpoint
from hf_warmup.hub.contents import DOCUMENTS
from hf_warmup.hub.failures import scrub
from hf_warmup.hub.publish import IN_TRAINING


REPOSITORY = "lab/tiny-digits"
SPACE = Path(__file__).parents[2] / "recipes" / "space"
Made = tuple[Path, Path]
Copied = Callable[[int], Path]


@pytest.mark.parametrize("private", [False, True])
def test_repository_holds_exactly_the_folder_by_one_commit(
    private: bool, hub: HubServer, client: Client, made: Made
) -> None:
    reply = client("publish", folder=str(made[1]), repo_id=REPOSITORY, private=private)
    assert reply.error is None
    assert f"Published in one commit: {hub.url}/{REPOSITORY}" in reply.printed
    assert held(hub, REPOSITORY) == on_disk(made[1])
    assert hub.store.repositories["models", REPOSITORY].private == private
    asked = hub.count("POST", ".")
    again = client("publish", folder=str(made[1]), repo_id=REPOSITORY, private=private)
    assert again.error is None
    assert "Nothing to do" in again.printed
    # Looked at, and nothing sent.
    assert hub.count("POST", ".") == asked
    assert num_commits(hub, REPOSITORY) == hub.count("POST", "/commit/main$") == 1


def test_a_change_is_one_commit_of_what_changed(hub: HubServer, client: Client, copied: Copied) -> None:
    folder = copied(1)
    assert client("publish", folder=str(folder), repo_id=REPOSITORY).error is None
    hub.store.change(hub.store.repositories["models", REPOSITORY], "main", [
        b'{"key": "header", "value": {"summary": "from elsewhere"}}',
        b'{"key": "file", "value": {"path": "pytorch_model.bin", "content": "AAAA"}}',
        b'{"key": "file", "value": {"path": "LICENSE", "content": "AAAA"}}',
        b'{"key": "file", "value": {"path": "radius.png", "content": "AAAA"}}',
    ])  # fmt: skip
    hub.requests.clear()
    reply = client("publish", folder=str(folder), repo_id=REPOSITORY)
    assert "1 files written, 1 removed" in reply.printed
    assert {path: content for path, content in held(hub, REPOSITORY).items() if path != "LICENSE"} == on_disk(folder)
    assert "LICENSE" in held(hub, REPOSITORY)
    assert hub.count("POST", "/commit/") == 1
    # The picture has been there before: it need not be sent again.
    assert hub.count("PUT", ".") == 0


def test_dry_run_tells_and_sends_nothing(hub: HubServer, client: Client, made: Made) -> None:
    before = client("publish", folder=str(made[1]), repo_id=REPOSITORY, private=True, dry_run=True, token=None)
    assert before.error is None
    assert "private, would be made" in before.printed
    assert before.printed.count("write ") == len(DOCUMENTS) + 1
    size = (made[1] / "model.safetensors").stat().st_size
    assert f"{size:,} bytes  model.safetensors" in before.printed
    assert not hub.store.repositories
    sent = client("publish", folder=str(made[1]), repo_id=REPOSITORY, as_json=True)
    assert sent.error is None
    document = json.loads(sent.printed)
    assert (document["sent"], len(document["commit"]), document["removed"]) == (True, 40, [])
    assert document["added"] == sorted(on_disk(made[1]))
    hub.requests.clear()
    dry = json.loads(client("publish", folder=str(made[1]), repo_id=REPOSITORY, dry_run=True, as_json=True).printed)
    assert (dry["sent"], dry["exists"], dry["added"]) == (False, True, [])
    after = client("publish", folder=str(made[1]), repo_id=REPOSITORY, dry_run=True)
    assert "public, exists; branch main" in after.printed
    assert "no commit, as nothing would change" in after.printed
    branch = client("publish", folder=str(made[1]), repo_id=REPOSITORY, dry_run=True, revision="next")
    assert "branch next (would be made)" in branch.printed
    assert {request.method for request in hub.requests} == {"GET"}


def test_revision_is_a_branch_of_its_own(hub: HubServer, client: Client, made: Made) -> None:
    assert client("publish", folder=str(made[1]), repo_id=REPOSITORY, revision="seeds/1").error is None
    assert held(hub, REPOSITORY, branch="seeds/1") == on_disk(made[1])
    assert held(hub, REPOSITORY) == {}
    again = client("publish", folder=str(made[1]), repo_id=REPOSITORY, revision="seeds/1")
    assert "Nothing to do" in again.printed
    assert num_commits(hub, REPOSITORY, branch="seeds/1") == 1
    # A commit is no branch: there is nothing to publish to.
    commit = hub.store.repositories["models", REPOSITORY].commit("main").oid
    assert "no branch" in str(client("publish", folder=str(made[1]), repo_id=REPOSITORY, revision=commit).error)


@pytest.mark.parametrize(
    ("token", "repo_id", "options", "message"),
    [
        (None, REPOSITORY, {}, "there is none: log in with `hf auth login`"),
        ("hf_" + "wrong" * 8, REPOSITORY, {}, "does not accept the token (401"),
        (READER, REPOSITORY, {}, "the token of ada may only read"),
        (STRANGER, REPOSITORY, {}, "no right to write to lab/tiny-digits (403"),
        (STRANGER, "lab/public", {}, "no right to write to lab/public (403"),
        (STRANGER, "lab/hidden", {}, "no right to write to lab/hidden (403"),
        (WRITER, "eve/mine", {}, "no right to write to eve/mine (403"),
        (WRITER, "lab/public", {"private": True}, "exists and is public"),
        (WRITER, "lab/other", {}, "holds something else (tokenizer.json), which"),
        (WRITER, "tiny-digits", {}, "--repo-id must be ORG/NAME"),
        (WRITER, "lab/a b", {}, "--repo-id must be ORG/NAME"),
        (WRITER, "lab/tiny/digits", {}, "--repo-id must be ORG/NAME"),
    ],
)
def test_refusals_say_what_to_do_and_change_nothing(
    token: str | None, repo_id: str, options: dict[str, bool], message: str, hub: HubServer, client: Client, made: Made
) -> None:
    ada = hub.store.users[WRITER]
    hub.store.create("models", "lab/public", ada, private=False)
    hub.store.create("models", "lab/hidden", ada, private=True)
    other = hub.store.create("models", "lab/other", ada, private=False)
    for path in (b"tokenizer.json", b"results.json"):
        hub.store.change(other, "main", [b'{"key": "file", "value": {"path": "%s", "content": ""}}' % path])
    before = {name: repository.commit("main").oid for name, repository in hub.store.repositories.items()}
    reply = client("publish", folder=str(made[1]), repo_id=repo_id, token=token, **options)
    assert str(reply.error).startswith("ConfigError: ")
    assert message in str(reply.error)
    assert "\n" not in str(reply.error)
    assert {name: repository.commit("main").oid for name, repository in hub.store.repositories.items()} == before


def test_tokens_are_scrubbed_and_names_are_not() -> None:
    assert scrub("a hf_AbCdEfGhIjKlMnOpQrStUvWxYz b hf_oauth_AbCdEfGhIjKlMnOpQrStUvWxYz") == "a *** b ***"
    kept = "hf_warmup.hub.checkpoint_folder and hf_warmup/hub"
    assert scrub(kept) == kept


def _add_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _link_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")


def _add_secret(folder: Path) -> None:
    (folder / ".env").write_text("HF_TOKEN=...")


def _add_folder(folder: Path) -> None:
    (folder / "checkpoints").mkdir()


def _edit_card(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("verified", "proven beyond doubt", 1))


def _change_weight(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def _lose_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_add_pickle, "pytorch_model.bin is not published"),
        (_link_weights, "model.safetensors is a link"),
        (_add_secret, ".env is not published"),
        (_add_folder, "checkpoints is a link or a folder"),
        (_edit_card, "README.md"),
        (_change_weight, "the weights were changed"),
        (_lose_config, "neither a checkpoint folder"),
    ],
)
def test_unfit_folders_never_meet_the_hub(
    spoil: Callable[[Path], None], message: str, hub: HubServer, client: Client, copied: Copied
) -> None:
    folder = copied(1)
    check_checkpoint(folder)
    spoil(folder)
    reply = client("publish", folder=str(folder), repo_id=REPOSITORY)
    assert message in str(reply.error)
    assert hub.requests == []


def test_what_git_and_the_hubs_client_keep_in_a_folder_stays_there(
    hub: HubServer, client: Client, copied: Copied
) -> None:
    folder = copied(1)
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert client("publish", folder=str(folder), repo_id=REPOSITORY).error is None
    assert sorted(held(hub, REPOSITORY)) == sorted(["model.safetensors", *DOCUMENTS])


def test_pushes_while_a_model_is_trained(hub: HubServer, client: Client, copied: Copied) -> None:
    folder = copied(1)
    assert client("check_push", repo_id=REPOSITORY).error is None
    assert client("publish", folder=str(folder), repo_id=REPOSITORY).error is None
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert client("push", folder=str(folder), repo_id=REPOSITORY, message="seed 0, epoch 2").value is True
    # No certificate of the earlier weights is left beside the new ones.
    assert held(hub, REPOSITORY) == {
        "model.safetensors": b"other weights",
        "README.md": IN_TRAINING.encode(),
        **{name: (folder / name).read_bytes() for name in ("config.json", "preprocessor_config.json")},
    }
    assert hub.store.repositories["models", REPOSITORY].commit("main").message == "seed 0, epoch 2"
    assert client("push", folder=str(folder), repo_id=REPOSITORY).value is True
    assert num_commits(hub, REPOSITORY) == 2
    assert client("push", folder=str(folder), repo_id="lab/runs", revision="short_warmup--0").value is True
    assert "model.safetensors" in held(hub, "lab/runs", branch="short_warmup--0")


def test_a_push_that_fails_is_a_warning(hub: HubServer, client: Client, made: Made, tmp_path: Path) -> None:
    hub.faults.append(Fault("PUT", "/upload/", "cut", times=1000))
    reply = client("push", folder=str(made[1]), repo_id=REPOSITORY)
    assert (reply.value, reply.error) == (False, None)
    assert "training goes on" in reply.printed
    missing = client("push", folder=str(tmp_path), repo_id=REPOSITORY)
    assert (missing.value, missing.error) == (False, None)
    assert "lacks model.safetensors" in missing.printed
    # Before a training begins, a token that cannot work is an error.
    assert "may only read" in str(client("check_push", repo_id=REPOSITORY, token=READER).error)


def test_a_page_becomes_a_space(hub: HubServer, client: Client, tmp_path: Path) -> None:
    """Its folder is that of the recipes, with its pictures; another kind of file in it is refused."""
    folder = tmp_path / "space"
    shutil.copytree(SPACE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    reply = client("publish", folder=str(folder), repo_id="lab/digits", as_space=True)
    assert reply.error is None
    assert f"Published in one commit: {hub.url}/spaces/lab/digits" in reply.printed
    repository = hub.store.repositories["spaces", "lab/digits"]
    found = {path: blob.content for path, blob in repository.branches["main"][-1].files.items()}
    found.pop(".gitattributes")
    assert found == {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "images/00006_0.png" in found
    assert client("publish", folder=str(folder), repo_id="lab/digits", as_space=True).printed.startswith(
        "Nothing to do"
    )
    (folder / "secrets.env").write_text("TOKEN=x")
    assert "does not belong in a Space" in str(
        client("publish", folder=str(folder), repo_id="lab/digits", as_space=True).error
    )
