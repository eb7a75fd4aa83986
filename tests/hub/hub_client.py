"""The client's side of the Hub tests, in a process of its own: huggingface_hub reads its settings when it is imported.

Started plainly it takes one request per line, JSON {"verb", "token", "arguments"}, and answers each with one line.
Started with a request as its argument it does that one thing, on each of several ranks, and writes the answer to the
file named by "out" with the rank behind it.
"""

import contextlib
import faulthandler
import importlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any


LONGEST = 240.0


def publish(folder: str, repo_id: str, **options: Any) -> None:
    from hf_warmup.cli.publish import publish_and_report

    settings = {"private": False, "revision": None, "dry_run": False, **options}
    publish_and_report(Path(folder), repo_id, **settings)


def publish_to(url: str, folder: str, repo_id: str) -> None:
    """Publish to a place where no Hub is."""
    from huggingface_hub import constants

    known, constants.ENDPOINT = constants.ENDPOINT, url
    try:
        publish(folder, repo_id)
    finally:
        constants.ENDPOINT = known


def push(folder: str, repo_id: str, **options: Any) -> bool:
    from hf_warmup.hub.publish import push_model

    return push_model(Path(folder), repo_id, **{"message": "in training", **options})


def check_push(repo_id: str) -> None:
    from hf_warmup.hub import publish as module

    module.check_push(repo_id)


def train(recipe: str, folder: str, repo_id: str) -> None:
    from hf_warmup.cli.train import train_and_report

    train_and_report(Path(recipe), (), out=Path(folder), num_seeds=None, push_to=repo_id)


def command(words: list[str], folder: str) -> int:
    """A command line as a person types it, in a folder; its exit code."""
    from hf_warmup.cli import application as cli

    before, arguments = Path.cwd(), sys.argv
    os.chdir(folder)
    sys.argv = words
    try:
        cli.main()
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        os.chdir(before)
        sys.argv = arguments
    return 0


def python(code: str) -> None:
    """A block of a document."""
    exec(compile(code, "README.md", "exec"), {})


def download(repo_id: str, folder: str, repo_type: str = "model", revision: str | None = None) -> list[str]:
    from huggingface_hub import snapshot_download

    place = Path(snapshot_download(repo_id, repo_type=repo_type, revision=revision, local_dir=folder))
    return sorted(
        str(path.relative_to(place)) for path in place.rglob("*") if path.is_file() and ".cache" not in path.parts
    )


def margins(repo_id: str, eps: str, examples: int) -> list[float]:
    """What a person does who has a repository's name and nothing else."""
    import torch
    from transformers import AutoModelForImageClassification

    from hf_warmup import certify

    model = AutoModelForImageClassification.from_pretrained(repo_id)
    size, channels = model.config.image_size, model.config.num_channels
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(examples, channels, size, size, generator=generator)
    certificate = certify(model.eval(), images, torch.arange(examples) % model.config.num_labels, eps=eps)
    margin: list[float] = certificate.margin.tolist()
    return margin


def world_size() -> int:
    from accelerate import PartialState

    return int(PartialState().num_processes)


def endpoint(verb: str, **arguments: Any) -> Any:
    """A method of HfApi, for what a test looks at or prepares."""
    from huggingface_hub import HfApi

    found = getattr(HfApi(), verb)(**arguments)
    return found if isinstance(found, str | int | float | list | bool | None) else str(found)


VERBS: dict[str, Callable[..., Any]] = {
    "publish": publish,
    "publish_to": publish_to,
    "push": push,
    "check_push": check_push,
    "train": train,
    "command": command,
    "python": python,
    "download": download,
    "margins": margins,
    "api": endpoint,
}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What came of a request: its value or its error, and all that was printed or logged meanwhile."""
    os.environ.pop("HF_TOKEN", None)
    if request.get("token"):
        os.environ["HF_TOKEN"] = request["token"]
    printed = io.StringIO()
    log = logging.StreamHandler(printed)
    logging.getLogger().addHandler(log)
    reply: dict[str, Any] = {"value": None, "error": None}
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            reply["value"] = VERBS[request["verb"]](**request.get("arguments", {}))
    except Exception as error:
        reply["error"] = f"{type(error).__name__}: {error}"
    finally:
        faulthandler.cancel_dump_traceback_later()
        logging.getLogger().removeHandler(log)
    return {**reply, "printed": printed.getvalue()}


def hurry() -> None:
    """Try again at once, as often as ever: waiting is the only thing left out."""
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    from hf_warmup.hub import transfer

    at_once = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    _http.time = file_download.time = at_once  # type: ignore[attr-defined, assignment]
    transfer.WAITS = tuple(0.0 for _ in transfer.WAITS)


def main() -> None:
    """Answer until nothing more is asked."""
    if len(sys.argv) > 1:
        # Forked off a process that read other settings.
        importlib.reload(importlib.import_module("huggingface_hub.constants"))
    hurry()
    if len(sys.argv) > 1:
        request = json.loads(sys.argv[1])
        reply = {**answer(request), "world_size": world_size()}
        Path(request["out"] + os.environ["RANK"]).write_text(json.dumps(reply))
        torch = sys.modules["torch"]
        torch.distributed.destroy_process_group()
        return
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
