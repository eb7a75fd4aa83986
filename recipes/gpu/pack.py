"""Folders in pieces of limited size, for a machine that takes and gives back only so much at a time.

    python recipes/gpu/pack.py split FOLDER OUT --size 44MiB
    python recipes/gpu/pack.py collect STUDY OUT --size 15MiB --files 5 --batch 1
    python recipes/gpu/pack.py join PIECES FOLDER

The files of a folder, one behind the other, are cut into pieces; `manifest.json` names files and pieces with their
SHA-256. `join` looks at every piece before it writes anything, and running any of them again changes nothing.
`collect` is `split` for a study: records first, gzipped, then the models' large weights in bfloat16, rounded as
`hf-warmup package --dtype bfloat16` rounds them; joined, they are float32 files of the rounded values, from which
`package` makes the same checkpoint. What is unfinished comes along with `--unfinished`: checkpoints, unrounded, and
records up to them.
"""

import argparse
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any


MANIFEST = "manifest.json"
PIECE = "piece_{:03d}"
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
RECIPE = "recipe.yaml"
# Of what a join restores.
STORED = ("plain", "gzip", "bfloat16")
Record = dict[str, Any]
# Path, how it is stored, and what gives its bytes.
Entry = tuple[str, str, Callable[[], bytes]]


def parse_size(text: str) -> int:
    """Bytes of a size such as "60MiB"."""
    found = re.fullmatch(r"([1-9]\d*)(KiB|MiB|GiB)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a whole number of KiB, MiB or GiB such as 60MiB, not {text!r}")
    return int(found[1]) * UNITS[found[2]]


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def files_of(folder: Path) -> list[str]:
    """Paths of all files in a folder, relative to it."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder.")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def entries_of(folder: Path) -> list[Entry]:
    """All files as they are."""
    return [(name, "plain", (folder / name).read_bytes) for name in files_of(folder)]


def entries_of_study(folder: Path, *, unfinished: bool) -> list[Entry]:
    """A study's files as `collect` sends them: records first, models last."""
    names = files_of(folder)
    if not (folder / "study.json").is_file():
        raise ValueError(f"{folder} is no folder of `hf-warmup train` or `hf-warmup compare`: it has no study.json.")
    entries: list[Entry] = []
    for name in names:
        path, top = folder / name, name.partition("/")[0]
        if top == "checkpoints" or name.endswith(".partial"):
            if unfinished and ".partial/" not in name:
                entries.append((name, "plain", path.read_bytes))
        elif top == "models" and name.endswith(".safetensors"):
            entries.append((name, "bfloat16", lambda path=path: round_weights(path)))
        elif top == "cells":
            entries.append((name, "gzip", lambda path=path: gzip.compress(path.read_bytes(), mtime=0)))
        elif name != RECIPE:
            entries.append((name, "plain", path.read_bytes))
    if (folder / "results.json").is_file():
        entries.append((RECIPE, "plain", lambda: recipe_of(folder / "results.json")))
    last = ("models", "checkpoints")
    return sorted(entries, key=lambda entry: (entry[0].partition("/")[0] in last, entry[0]))


def recipe_of(results: Path) -> bytes:
    """The recipe that a study's results were made by, as YAML."""
    import yaml

    config = json.loads(results.read_text(encoding="utf-8"))["config"]
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()


def round_weights(path: Path) -> bytes:
    """A model's weights, the large ones in bfloat16."""
    from safetensors.torch import load_file, save

    from hf_warmup.models.saving import rounded

    weights = {name: rounded(name, tensor, "bfloat16") for name, tensor in load_file(path).items()}
    return save(weights, metadata={"format": "pt"})


def widen_weights(content: bytes) -> bytes:
    """The same values, all in float32."""
    import torch
    from safetensors.torch import load, save

    weights = load(content)
    wide = {name: each.float() if each.dtype == torch.bfloat16 else each for name, each in weights.items()}
    return save(wide, metadata={"format": "pt"})


def split(entries: list[Entry], out: Path, *, size: int, first: int = 0, count: int | None = None) -> Record:
    """Write the manifest, and `count` pieces from the `first` on; all of them for None.

    Raises:
        ValueError: if `out` holds anything but pieces, or there is nothing to split, or no such piece.
    """
    if not entries:
        raise ValueError("there are no files to split.")
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    files: list[Record] = []
    pieces: list[Record] = []
    wanted = range(first, sys.maxsize if count is None else first + count)
    for number, content in enumerate(cut(entries, size, files)):
        name = PIECE.format(number)
        pieces.append({"name": name, "bytes": len(content), "sha256": digest(content)})
        if number in wanted:
            write(out / name, content)
    if first >= len(pieces):
        raise ValueError(f"there are {len(pieces)} pieces and no such batch.")
    manifest = {"format": 1, "pieces": pieces, "files": files}
    write(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    written = {piece["name"] for number, piece in enumerate(pieces) if number in wanted}
    for path in out.glob("piece_*"):
        if path.name not in written:
            path.unlink()
    return manifest


def check_place(out: Path) -> None:
    """Refuse a folder that holds anything but pieces, since pieces are overwritten and removed there."""
    others = [path.name for path in out.glob("*") if not re.fullmatch(r"piece_\d{3,}|manifest\.json", path.name)]
    if others:
        raise ValueError(f"{out} holds other files ({', '.join(sorted(others)[:3])}): choose another folder.")


def cut(entries: list[Entry], size: int, files: list[Record]) -> Iterator[bytes]:
    """Pieces of `size` bytes, the last one shorter; what is in them is added to `files`."""
    rest = bytearray()
    for path, stored, read in entries:
        content = read()
        files.append({"path": path, "stored": stored, "bytes": len(content), "sha256": digest(content)})
        rest += content
        while len(rest) > size:
            yield bytes(rest[:size])
            del rest[:size]
    yield bytes(rest)


def write(path: Path, content: bytes) -> None:
    """Put content at a path whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


def join(pieces: Path, folder: Path) -> Record:
    """Put the files of a complete set of pieces into a folder.

    Raises:
        ValueError: if a piece is missing or damaged, the manifest is none, or `folder` holds files that it does not
            name; nothing is written then.
    """
    manifest = read_manifest(pieces / MANIFEST)
    for piece in manifest["pieces"]:
        path = pieces / piece["name"]
        if not path.is_file():
            have = sum((pieces / each["name"]).is_file() for each in manifest["pieces"])
            raise ValueError(f"{path} is missing; {have} of {len(manifest['pieces'])} pieces are there.")
        content = path.read_bytes()
        if len(content) != piece["bytes"] or digest(content) != piece["sha256"]:
            raise ValueError(f"{path} is damaged, or of another set of pieces: fetch it again.")
    names = {file["path"] for file in manifest["files"]}
    strangers = sorted(set(files_of(folder)) - names) if folder.exists() else []
    if strangers:
        raise ValueError(
            f"{folder} holds files of something else ({', '.join(strangers[:3])}): choose another folder."
        )
    stream = (pieces / piece["name"] for piece in manifest["pieces"])
    rest = bytearray()
    for file in manifest["files"]:
        while len(rest) < file["bytes"]:
            rest += next(stream).read_bytes()
        content = bytes(rest[: file["bytes"]])
        del rest[: file["bytes"]]
        if digest(content) != file["sha256"]:
            raise ValueError(f"{file['path']} is not what {MANIFEST} says: the manifest is damaged.")
        write(folder / file["path"], restore(content, file["stored"]))
    return manifest


def restore(content: bytes, stored: str) -> bytes:
    """What was a file's content before it was stored, but for rounding."""
    if stored == "gzip":
        return gzip.decompress(content)
    return widen_weights(content) if stored == "bfloat16" else content


def read_manifest(path: Path) -> Record:
    """A manifest that names nothing outside of the folders it is used with.

    Raises:
        ValueError: if it is missing or is none.
    """
    try:
        manifest: Record = json.loads(path.read_text(encoding="utf-8"))
        stored = {file["stored"] for file in manifest["files"]}
        paths = [PurePosixPath(each["path"]) for each in manifest["files"]]
        paths += [PurePosixPath(each["name"]) for each in manifest["pieces"]]
        sums = [sum(each["bytes"] for each in manifest[key]) for key in ("files", "pieces")]
    except FileNotFoundError:
        raise ValueError(f"{path} is missing.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is no manifest of pieces.") from None
    if manifest.get("format") != 1 or not stored <= set(STORED) or sums[0] != sums[1]:
        raise ValueError(f"{path} is no manifest of pieces.")
    outside = [str(each) for each in paths if each.is_absolute() or ".." in each.parts or not each.parts]
    if outside:
        raise ValueError(f"{path} names a place outside of its folder: {outside[0]}.")
    return manifest


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, size in (("split", "44MiB"), ("collect", "15MiB")):
        command = commands.add_parser(name)
        command.add_argument("source", type=Path)
        command.add_argument("out", type=Path)
        command.add_argument("--size", type=parse_size, default=parse_size(size), help="of a piece, at most")
    command.add_argument("--files", type=int, default=5, help="at most so many files in OUT, the manifest being one")
    command.add_argument("--batch", type=int, default=1, help="which of the calls that all pieces take, from 1")
    command.add_argument("--unfinished", action="store_true", help="checkpoints and records of unfinished runs, too")
    command = commands.add_parser("join")
    command.add_argument("source", type=Path)
    command.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "collect" and (options.files < 2 or options.batch < 1):
        parser.error("--files must be at least 2 and --batch at least 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Do it, and say what was done; 2 if it is refused."""
    options = parse(arguments)
    try:
        if options.command == "join":
            manifest = join(options.source, options.out)
            print(f"{options.out}: {len(manifest['files'])} files out of {len(manifest['pieces'])} pieces")
            return 0
        if options.command == "split":
            manifest = split(entries_of(options.source), options.out, size=options.size)
            print(f"{options.out}: {len(manifest['files'])} files in {len(manifest['pieces'])} pieces")
            return 0
        entries = entries_of_study(options.source, unfinished=options.unfinished)
        count = options.files - 1
        manifest = split(entries, options.out, size=options.size, first=(options.batch - 1) * count, count=count)
    except (OSError, ValueError) as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2
    batches = -(-len(manifest["pieces"]) // count)
    print(f"{options.out}: batch {options.batch} of {batches}, {len(manifest['pieces'])} pieces in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
