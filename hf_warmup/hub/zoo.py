"""Lists checkpoints, and finds out whether a card is true by proving and attacking again.

Only safetensors and data are loaded from elsewhere, never code. Deliberately absent: trust in a stored verdict.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_session, snapshot_download
from torch import nn

from hf_warmup.bounds import UnsupportedOperation
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.blocks import Progress
from hf_warmup.certified.cascade import Blockwise, certify_in_blocks
from hf_warmup.certified.certificate import images_digest
from hf_warmup.certified.evaluation import Assessment, assess
from hf_warmup.certified.placing import AS_ON_CARDS, Placing
from hf_warmup.data.images import Images
from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint, load_model, load_test_images
from hf_warmup.hub.contents import BOOKKEEPING
from hf_warmup.hub.failures import first_line
from hf_warmup.records.files import Record, read_json
from hf_warmup.studies.certification.config import CertifiedStudyConfig


# A model on the Hub is a checkpoint if its card carries this tag.
TAG = "hf_warmup"
SUFFIXES = ("safetensors", "json", "md", "png", "yaml", "npz", "py")
# Seconds after which the Hub counts as out of reach.
REACHABLE = 5.0
logger = logging.getLogger(__name__)


def list_checkpoints(root: Path) -> list[Record]:
    """The checkpoints in a folder of folders, by name. It checks only that `results.json` can be read.

    Returns:
        For each `name`, `place` (its path), `data`, `eps`, `clean`, `pgd` and `verified` (accuracies, fractions), and
        `problem`: None, or why there are no numbers.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [_local(folder) for folder in folders if not folder.name.startswith(".")]


def _local(folder: Path) -> Record:
    entry = _entry(folder.name, str(folder))
    try:
        results = read_json(folder / "results.json")
        scores = {key: float(results["scores"][key]["accuracy"]) for key in ("clean", "pgd", "verified")}
        return {**entry, "data": str(results["data"]["name"]), "eps": str(results["eps"]), **scores}
    except (OSError, ValueError, KeyError, TypeError):
        return {**entry, "problem": "no usable results.json"}


def _entry(name: str, place: str) -> Record:
    return {
        "name": name,
        "place": place,
        "problem": None,
        **dict.fromkeys(("data", "eps", "clean", "pgd", "verified")),
    }


def list_hub_checkpoints(author: str | None = None) -> list[Record]:
    """The Hub's checkpoints as in `list_checkpoints`, from their cards' metadata; without network none, and a warning.

    Args:
        author: only those of this user or organization.
    """
    try:
        # The client repeats a failed list for half a minute, so ask first whether the Hub answers.
        get_session().head(constants.ENDPOINT, timeout=REACHABLE)
        models = list(HfApi().list_models(filter=TAG, author=author, cardData=True))
    except Exception as error:  # the client raises many kinds, all of which mean: cannot be had now
        logger.warning(
            "The Hub cannot be asked for checkpoints (%s); only local ones are listed.", type(error).__name__
        )
        return []
    return [_remote(model.id, model.card_data) for model in models]


def _remote(name: str, card: object) -> Record:
    entry = _entry(name, "Hub")
    for result in getattr(card, "eval_results", None) or []:
        key = {"accuracy": "clean", "pgd_accuracy": "pgd", "verified_accuracy": "verified"}.get(result.metric_type)
        if key and isinstance(result.metric_value, int | float):
            entry |= {key: float(result.metric_value), "data": result.dataset_type}
            entry["eps"] = (result.metric_args or {}).get("eps", entry["eps"])
    return entry if entry["verified"] is not None else {**entry, "problem": "its card states no verified accuracy"}


def verify_checkpoint(
    name_or_folder: str,
    *,
    data_folder: str | None,
    root: Path,
    placing: Placing = AS_ON_CARDS,
    progress: Progress | None = None,
) -> Record:
    """Check a checkpoint, certify and attack it again on the whole test split, and compare with what it states.

    Args:
        name_or_folder: a folder, the name of one in `root`, or OWNER/NAME on the Hub.
        data_folder: copy of the data set.
        root: folder of local checkpoints.
        placing: where, and how many images at once.
        progress: see `assess`.

    Returns:
        `name`, `equal`, `differences` (sentences), and the counts: `stated` and `found`.

    Raises:
        ConfigError: if it cannot be had, `check_checkpoint` refuses it, or the data cannot be loaded.
        RuntimeError: if the attack breaks an image that is proven, which would mean a wrong bound.
    """
    with _local_folder(name_or_folder, root) as folder:
        check_checkpoint(folder)
        results, certificate = read_json(folder / "results.json"), read_json(folder / "certificate.json")
        recipe = CertifiedStudyConfig.model_validate(results["recipe"])
        images = load_test_images(folder, recipe, data_folder)
        try:
            attack = PgdConfig.model_validate(results["attack"])
            model, size = placing.put(load_model(folder, images), images[:1]["pixel_values"])
            work = Blockwise(certificate["method"], size, progress=progress)
            found = _proven_again(model, images, results["eps"], attack, work)
        except (UnsupportedOperation, ValueError) as error:
            raise ConfigError(f"{name_or_folder}: {error}") from None
    differences, counts = _differences(results["counts"], certificate, images, found), _counts(found)
    return {
        "name": results["name"],
        "equal": not differences,
        "differences": differences,
        "stated": results["counts"],
        "found": counts,
    }


def _proven_again(model: nn.Module, images: Images, eps: str, attack: PgdConfig, work: Blockwise) -> Assessment:
    """What is found of a split, with all that a method proves of it."""
    options: Any = {"attack": attack, "batch_size": work.batch_size, "progress": work.progress}
    if work.method == "ibp":
        return assess(model, images, eps, **options)
    device = next(model.parameters()).device
    batch = {name: part.to(device) for name, part in images.__getitems__(range(len(images))).items()}
    proven = certify_in_blocks(model, batch["pixel_values"], batch["labels"], eps, work).verified
    return replace(assess(model, images, eps, proven=proven, **options), verified=proven.cpu())


def _differences(stated: Record, certificate: Record, images: Images, found: Assessment) -> list[str]:
    """What is not as stated, in counts, in the data and image by image."""
    counts = _counts(found)
    differences = [
        f"{key}: {value} stated, {counts[key]} found" for key, value in stated.items() if counts[key] != value
    ]
    # Labels and verdicts could agree on other pixels.
    if certificate["data"]["images_sha256"] != images_digest(images):
        differences.append("images: the pixels of the data set are not those of certificate.json")
    stored = certificate["images"]
    for what, now in (("label", images.labels), ("prediction", found.predictions), ("verified", found.verified.int())):
        if stored[what] != now.tolist():
            differences.append(f"{what}: certificate.json {_where(stored[what], now.tolist())}")
    return differences


def _counts(found: Assessment) -> dict[str, int]:
    broken = 0 if found.broken is None else int(found.broken.sum())
    return {**found.counts(), "num_clean": int(found.clean.sum()), "num_broken": broken}


def _where(stored: list[int], now: list[int]) -> str:
    if len(stored) != len(now):
        return f"speaks of {len(stored)} images, the data has {len(now)}"
    wrong = [index for index, pair in enumerate(zip(stored, now, strict=True)) if pair[0] != pair[1]]
    return f"differs on {len(wrong)} images, the first of them number {wrong[0]}"


@contextmanager
def _local_folder(name: str, root: Path) -> Iterator[Path]:
    for folder in (Path(name), root / name):
        if folder.is_dir():
            yield folder
            return
    if name.count("/") != 1:
        here = ", ".join(entry["name"] for entry in list_checkpoints(root)) or "none"
        raise ConfigError(
            f"{name!r} is neither a folder, nor a checkpoint in {root} (there: {here}), nor OWNER/NAME on the Hub."
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name.rpartition("/")[2]
        # The cache holds links, a checkpoint plain files.
        shutil.copytree(_download(name), folder)
        yield folder


def _download(name: str) -> str:
    """The cache's folder of the Hub repository's newest commit.

    Raises:
        ConfigError: if it cannot be had, or holds files that a checkpoint has not.
    """
    try:
        info = HfApi().model_info(name)
        present = [sibling.rfilename for sibling in info.siblings or []]
        wrong = [file for file in present if not file.endswith(tuple(f".{suffix}" for suffix in SUFFIXES))]
        wrong = [file for file in wrong if file not in BOOKKEEPING]
        if not wrong:
            allowed = [f"*.{suffix}" for suffix in SUFFIXES]
            return str(snapshot_download(name, revision=info.sha, allow_patterns=allowed))
    except Exception as error:  # as above
        raise ConfigError(
            f"{name} cannot be downloaded from the Hub ({type(error).__name__}: {first_line(error)})."
        ) from None
    raise ConfigError(f"{name} holds {', '.join(wrong)}, which a checkpoint does not: nothing was downloaded.")
