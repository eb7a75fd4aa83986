"""A checkpoint folder: a certified model with its proofs, its recipe and its card, as a Hub repository holds them.

Everything that the card says stands in `results.json`. The numbers there follow from the certificate, image by image,
so the parts of a folder can be checked against each other. Only a proof can show that the verdicts are true; that is
left to `hf_warmup.hub.zoo`. Deliberately absent: other formats than safetensors.
"""

import math
from fractions import Fraction
from pathlib import Path
from statistics import median

import torch
from safetensors import SafetensorError
from torch import nn

from hf_warmup.certified import parse_eps
from hf_warmup.certified.certificate import attack_contradictions, radii_in, weights_digest
from hf_warmup.data.classes import model_names
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import Images, in_classes, load_split
from hf_warmup.errors import ConfigError, first_line
from hf_warmup.hub.contents import check_evidence, check_files, file_digest
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.models.pixel_classifier import load_classifier
from hf_warmup.models.saving import stored_type
from hf_warmup.numpy_verifier.claims import STAGED, contradictions, read_claims
from hf_warmup.numpy_verifier.reading import read_object
from hf_warmup.numpy_verifier.weights import WHOLE, read_weights
from hf_warmup.records.files import Record, read_json
from hf_warmup.report.card import render_card, same_card
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.yaml_config import parse


# Results name these by their SHA-256.
HASHED = ("certificate.json", "attack.json", "radius.png")
# Multiples of eps at which a card states the certified accuracy.
CURVE = (Fraction(1, 2), Fraction(1), Fraction(3, 2), Fraction(2))


def counts_of(certificate: Record, attack: Record) -> dict[str, int]:
    """How many images there are, and how many the model got right, were proven, attacked and broken."""
    images = certificate["images"]
    labels, broken = images["label"], [each for each in attack["broken"] if each is not None]
    return {
        "num_examples": len(labels),
        "num_clean": sum(label == found for label, found in zip(labels, images["prediction"], strict=True)),
        "num_verified": sum(images["verified"]),
        "num_attacked": len(broken),
        "num_broken": sum(broken),
    }


def statement(certificate: Record, attack: Record) -> Record:
    """What results repeat of certificate and attack."""
    names = ("data", "eps", "eps_value", "norm", "verifier", "weights_sha256")
    return {**{name: certificate[name] for name in names}, "attack": attack["attack"]}


def proofs_of(certificate: Record) -> Record | None:
    """How a certificate of several stages came about; None for intervals alone."""
    names = ("method", "num_verified_by", "num_falsified", "num_unknown")
    return {name: certificate[name] for name in names} if certificate["format"] == STAGED else None


def scores_of(counts: dict[str, int]) -> Record:
    """Clean, PGD and verified accuracy, each with its count and exact 95 % interval."""
    attacked = counts["num_attacked"]
    parts = {
        "clean": (counts["num_clean"], counts["num_examples"]),
        "pgd": (attacked - counts["num_broken"], attacked),
        "verified": (counts["num_verified"], counts["num_examples"]),
    }
    return {
        name: {"count": count, "of": of, "accuracy": count / of, "interval": list(clopper_pearson(count, of))}
        for name, (count, of) in parts.items()
    }


def curve_of(certificate: Record) -> Record:
    """Certified radii in short: median, largest, and the share of images proven at multiples of eps."""
    radii = radii_in(certificate) or [0.0]
    eps = [Fraction(certificate["eps"]) * multiple for multiple in CURVE]
    return {
        "median": float(median(radii)),
        "largest": max(radii),
        **({"num_examples": len(radii)} if len(radii) < certificate["num_examples"] else {}),
        "curve": [
            {"eps": str(each), "share": sum(radius >= parse_eps(each) for radius in radii) / len(radii)}
            for each in eps
            if each <= 1
        ],
    }


def load_test_images(folder: Path, recipe: CertifiedStudyConfig, data_folder: str | None) -> Images:
    """The whole test split of a recipe's data set, in the classes of the folder's model.

    Raises:
        ConfigError: as `load_split`, or if a copy in `data_folder` has other classes.
    """
    changed = {"folder": data_folder, "test_examples": None}
    data = DataConfig(**{**recipe.data.model_dump(), **changed})
    config = CertifiedConfig.from_pretrained(folder)
    return in_classes(load_split(data, "test"), model_names(config.id2label), config.num_labels, data)


def load_model(folder: Path, images: Images) -> nn.Module:
    """The folder's model, in eval mode, for these images; raises as `load_classifier`."""
    _, channels, height, width = images.images.shape
    return load_classifier(str(folder), image_size=(height, width), num_channels=channels)


def model_facts(folder: Path) -> Record:
    """What the loaded model is.

    Raises:
        ConfigError: if it does not load, or its weights are not exactly those that its config asks for.
    """
    try:
        model, info = CertifiedForImageClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder}: the model does not load ({first_line(error)}).") from None
    # A missing weight would be filled at random, without an error.
    wrong = sorted(str(key) for part in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[part])
    if wrong:
        raise ConfigError(
            f"{folder}: the model does not load: weights that do not fit its config: {', '.join(wrong)}."
        )
    # transformers computes in the dtype of config.json, or where that is missing in the dtype of some weight.
    stated = read_json(folder / "config.json").get("dtype", "float32" if stored_type(folder) == "float32" else None)
    if stated != "float32" or {part.dtype for part in model.state_dict().values() if part.is_floating_point()} != {
        torch.float32
    }:
        raise ConfigError(
            f"{folder}: the model is not computed in float32 when it is loaded, and what is proven is about that: "
            f'config.json must say "dtype": "float32", whatever the weights are stored in.'
        )
    names = ("architecture", "batch_norm", "image_size", "num_channels", "num_labels")
    return {**{name: getattr(model.config, name) for name in names}, "num_parameters": model.num_parameters()}


def check_checkpoint(folder: Path) -> None:
    """Check that a folder is a checkpoint whose parts agree; nothing is proven again.

    Raises:
        ConfigError: with the reason: a file too many or too few, or a symbolic link; code that is not ours; weights,
            certificate, curve, recipe or card that are not those of `results.json`; a model that does not load.
    """
    check_files(folder)
    results, certificate, *settings = (
        _document(folder / name)
        for name in ("results.json", "certificate.json", "config.json", "preprocessor_config.json")
    )
    attack = _document(folder / "attack.json")
    for name, document in zip(("config.json", "preprocessor_config.json"), settings, strict=True):
        _check_code(folder, name, document)
    if settings[0].get("model_type") != CertifiedConfig.model_type:
        raise ConfigError(
            f"{folder}: config.json describes a {settings[0].get('model_type')!r} model, not a certified one."
        )
    if weights_digest(str(folder)) != results.get("weights_sha256"):
        raise ConfigError(
            f"{folder}: the SHA-256 of {WHOLE} or its shards is not that of results.json: the weights were changed, "
            f"and nothing is known of them."
        )
    for check in (_check_certificate, _check_recipe, _check_card, _check_model):
        try:
            check(folder, results, certificate, attack)
        except ConfigError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
            raise ConfigError(
                f"{folder}: results.json, certificate.json or attack.json is not as this version writes it "
                f"({type(error).__name__}: {error})."
            ) from None


def _document(path: Path) -> Record:
    try:
        return read_object(path)
    except ValueError as error:
        raise ConfigError(
            f"{path.parent}: {path.name} is not a JSON object with a single reading ({error})."
        ) from None


def _check_code(folder: Path, name: str, settings: Record) -> None:
    """A config can name code, of this folder or of any repository, for people who trust remote code."""
    for value in dict(settings.get("auto_map") or {}).values():
        module = str(value).partition(".")[0]
        if not (folder / f"{module}.py").is_file() or "/" in str(value):
            raise ConfigError(f"{folder}: {name} names code that is not in the folder (auto_map: {value}).")


def _check_certificate(folder: Path, results: Record, certificate: Record, attack: Record) -> None:
    try:
        wrong = list(contradictions(certificate, read_claims(certificate)))
    except ValueError as error:
        raise ConfigError(f"{folder}: certificate.json: {error}") from None
    wrong += attack_contradictions(certificate, attack)
    if wrong:
        raise ConfigError(f"{folder}: {wrong[0]}")
    counts = counts_of(certificate, attack)
    stated = {**statement(certificate, attack), "counts": counts, "radii": curve_of(certificate)}
    stated["proofs"] = proofs_of(certificate)
    for key, value in stated.items():
        if (found := results.get(key)) != value:
            raise ConfigError(f"{folder}: {key} is {found} in results.json, and {value} by the other files.")
    check_evidence(folder, certificate)
    if not _same_scores(results["scores"], scores_of(counts)):
        raise ConfigError(f"{folder}: the accuracies in results.json are not those of its counts.")
    if results["files_sha256"].keys() != set(HASHED):
        raise ConfigError(f"{folder}: results.json must name the SHA-256 of {', '.join(HASHED)}.")
    for name, digest in results["files_sha256"].items():
        if file_digest(folder / name) != digest:
            raise ConfigError(f"{folder}: {name} was changed: its SHA-256 is not that of results.json.")


def _check_recipe(folder: Path, results: Record, *_: Record) -> None:
    recipe = parse(CertifiedStudyConfig, folder / "training.yaml")
    # Parsed, so that an option that came later has its default.
    if recipe != CertifiedStudyConfig.model_validate(results["recipe"]):
        raise ConfigError(f"{folder}: training.yaml is not the recipe of results.json.")
    named, said = recipe.data, results["data"]
    if (named.name, named.subset, named.test_split) != (said["name"], said.get("subset"), said["split"]):
        raise ConfigError(f"{folder}: training.yaml names other data than the certificate.")


def _check_card(folder: Path, results: Record, *_: Record) -> None:
    if not same_card((folder / "README.md").read_text(encoding="utf-8"), render_card(results)):
        raise ConfigError(
            f"{folder}: README.md is not the card that results.json gives: it was edited by hand, or results.json was."
        )


def _check_model(folder: Path, results: Record, *_: Record) -> None:
    read_weights(folder)
    if stored_type(folder) != results.get("storage", {}).get("dtype", "float32"):
        raise ConfigError(f"{folder}: weights are stored in {stored_type(folder)}, which results.json does not say.")
    facts = model_facts(folder)
    if facts != results["model"]:
        raise ConfigError(f"{folder}: the model is {facts}, results.json says {results['model']}.")


def _same_scores(stated: Record, expected: Record) -> bool:
    """Exactly so for counts; the ends of intervals may differ in their last digits between versions of scipy."""
    return stated.keys() == expected.keys() and all(
        {**stated[name], "interval": None} == {**score, "interval": None}
        and all(
            math.isclose(*ends, abs_tol=1e-9) for ends in zip(stated[name]["interval"], score["interval"], strict=True)
        )
        for name, score in expected.items()
    )
