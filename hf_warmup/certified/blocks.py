"""Work on images in blocks: who does which, and what is kept of each, so that a killed run goes on.

What is found of a block depends on its images alone, not on what came before or on who works on it. So any number of
processes and of starts gives the same bits. Deliberately absent: what the work is.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, write_bytes


# Name of the folder in a folder of results.
BLOCKS = "blocks"
# A block has at least so many images: it takes several batches where those are smaller.
LEAST = 32
# How long a process waits for others that still work on their blocks.
PATIENCE = timedelta(days=1)

# Told of images done and images to do, by this process; and the same with the name of a stage in front.
Tell = Callable[[int, int], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Part:
    """What was found of a block.

    Attributes:
        tensors: by name, on the CPU.
        said: what else, as JSON holds it.
        stopped: why the block was not looked at whole, "time" or "memory"; None where it was.
    """

    tensors: dict[str, Tensor]
    said: Record = field(default_factory=dict)
    stopped: str | None = None


# What is done with a block: its images' numbers, and what is told of how many of them are done.
Work = Callable[[Tensor, Callable[[int], None]], Part]


class OutOfTime(Exception):
    """Ends the work on a block, and on all that follow it in this process."""


def in_batches(
    images: Tensor, size: int, find: Callable[[Tensor], dict[str, Tensor]], told: Callable[[int], None]
) -> Part:
    """What is found of a block's images, batch by batch: in smaller ones where memory ends, until time ends.

    Args:
        images: their numbers.
        size: of a batch.
        find: tensors by name, which are joined; it raises `OutOfTime`.
        told: of how many images are done.
    """
    done, stopped, found = 0, None, list[dict[str, Tensor]]()
    while done < len(images) and stopped is None:
        try:
            found.append({name: tensor.cpu() for name, tensor in find(images[done : done + size]).items()})
        except OutOfTime:
            stopped = "time"
        except (RuntimeError, MemoryError) as error:
            if not is_memory(error):
                raise
            stopped, size = "memory" if size == 1 else None, max(1, size // 4)
        else:
            done = min(done + size, len(images))
            told(done)
    names = dict.fromkeys(name for each in found for name in each)
    return Part({name: torch.cat([each[name] for each in found if name in each]) for name in names}, stopped=stopped)


def is_memory(error: BaseException) -> bool:
    """Whether an error says that memory has ended."""
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return memory or "DefaultCPUAllocator: " in str(error)


def block_size(batch_size: int, least: int = LEAST) -> int:
    """Images of a block, a whole number of batches and at least so many."""
    return batch_size * -(-least // batch_size)


def folder_of_blocks(out: Path, facts: Record) -> Path:
    """Where blocks are kept in a folder of results: apart for all that decides what is found, its `facts`."""
    return out / BLOCKS / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Blocks:
    """Does the blocks that are this process's, and gives back what all processes have found.

    Args:
        folder: where each block's find is kept as soon as it is complete, and taken from; None keeps nothing. It must
            be for this model, these images and these options alone.
        shared: whether other processes of the group make the same calls and take their share; otherwise this process
            does everything.
    """

    def __init__(self, folder: Path | None = None, *, shared: bool = False) -> None:
        self.folder = folder
        self.index, self.count = 0, 1
        if shared:
            self.index, self.count = PartialState().process_index, PartialState().num_processes

    def each(self, purpose: str, chosen: Tensor, size: int, work: Work, tell: Tell | None = None) -> list[Part]:
        """What was found of each block of some images, in their order; the same on all processes.

        Where a block was not looked at whole, this process stops; what it did not begin is not there.

        Args:
            purpose: of the work; a word.
            chosen: numbers of the images, (N,), ascending.
            size: images of a block.
            work: on one block.
            tell: of images that this process has done, and has to do.

        Raises:
            Whatever the work of any process raises.
        """
        parts = torch.split(chosen.cpu(), size) if len(chosen) else ()
        own = range(self.index, len(parts), self.count)
        total, done = sum(len(parts[number]) for number in own), 0
        found: dict[int, Part] = {}
        failure: Exception | None = None
        try:
            for number in own:
                before = done

                def told(count: int, before: int = before) -> None:
                    if tell is not None:
                        tell(before + count, total)

                found[number] = self._done(purpose, parts[number], work, told)
                if found[number].stopped is not None:
                    break
                done += len(parts[number])
        except Exception as error:
            if self.count == 1:
                raise
            failure = error
        return self._gathered(found, failure)

    def whole(
        self,
        purpose: str,
        count: int,
        batch_size: int,
        find: Callable[[Tensor], dict[str, Tensor]],
        progress: Progress | None = None,
    ) -> dict[str, Tensor]:
        """What `find` finds of images 0, 1, ..., batch by batch, joined in their order.

        Raises:
            ConfigError: if there is no image, or memory ends with a single one.
        """
        if count == 0:
            raise ConfigError("there is no image to certify.")
        tell = None if progress is None else partial(progress, purpose)

        def work(chosen: Tensor, told: Callable[[int], None]) -> Part:
            return in_batches(chosen, batch_size, find, told)

        parts = self.each(purpose, torch.arange(count), block_size(batch_size), work, tell)
        if any(part.stopped for part in parts):
            raise ConfigError(f"{purpose}: memory ends with a single image; take a device that has more.")
        return {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}

    def _gathered(self, found: dict[int, Part], failure: Exception | None) -> list[Part]:
        if self.count > 1:
            every = gather_object([(found, failure)])
            for _, raised in every:
                if raised is not None:
                    raise raised
            found = {number: part for others, _ in every for number, part in others.items()}
        return [found[number] for number in sorted(found)]

    def _done(self, purpose: str, images: Tensor, work: Work, told: Callable[[int], None]) -> Part:
        path = None if self.folder is None else self.folder / _name(purpose, images)
        part = None if path is None else _read(path)
        if part is None:
            start = time.monotonic()
            part = work(images, told)
            part.said["seconds"] = time.monotonic() - start
            if path is not None and part.stopped is None:
                digest = _digest(part.tensors)
                write_bytes(path, save(part.tensors, {"said": json.dumps(part.said), "digest": digest}))
        else:
            told(len(images))
        return part


def _name(purpose: str, images: Tensor) -> str:
    """A file's name, by all of the images: which of them a later stage looks at depends on the ones before."""
    digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    return f"{purpose}-{int(images[0]):06}-{digest[:16]}.safetensors"


def _read(path: Path) -> Part | None:
    """What is kept at `path`; None where there is nothing, or something damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            said = json.loads(file.metadata()["said"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return Part(tensors, said) if file.metadata()["digest"] == _digest(tensors) else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256: a disk that turns a bit must prove nothing."""
    return hashlib.sha256(save(dict(sorted(tensors.items())))).hexdigest()
