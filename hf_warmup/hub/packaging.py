"""Makes a checkpoint folder of one run of a finished study: its model, certified on the whole test split."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from hf_warmup.bounds import UnsupportedOperation
from hf_warmup.certified import parse_eps
from hf_warmup.certified.blocks import Progress
from hf_warmup.certified.cascade import Blockwise
from hf_warmup.certified.certificate import by_stages, radii_in
from hf_warmup.certified.placing import AS_ON_CARDS, Placing
from hf_warmup.certified.split import Claim, Results, certify_split, kept_work
from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import (
    HASHED,
    check_checkpoint,
    counts_of,
    curve_of,
    load_model,
    load_test_images,
    model_facts,
    proofs_of,
    scores_of,
    statement,
)
from hf_warmup.hub.contents import file_digest, named_evidence
from hf_warmup.models.saving import StorageType, model_files, store_model, stored_type
from hf_warmup.models.source import ModelSource
from hf_warmup.records.files import Record, read_json, write_bytes, write_json, write_text
from hf_warmup.report.card import recipe_text, render_card
from hf_warmup.report.plots import radius_curve, save_figure
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.folder import read_timings


PAPER = "https://arxiv.org/abs/2103.17268"
# Share of images that may be decided otherwise: hardware rounds a margin near 0 differently in float32.
MOST_DIFFERENT = 0.001
# The same share after rounding to bfloat16, which changes weights by up to 0.4 %; more means that it did harm.
MOST_DIFFERENT_ROUNDED = 0.02


def package_checkpoint(
    study_folder: Path,
    run: str,
    out: Path,
    *,
    data_folder: str | None = None,
    dtype: StorageType | None = None,
    max_shard_size: str | None = None,
    placing: Placing = AS_ON_CARDS,
    progress: Progress | None = None,
) -> Path:
    """Certify a run's model on the whole test split and put it, with all that was found, into a folder.

    What is certified is the model as it is stored, loaded again from the folder and computed in float32.

    Args:
        study_folder: of a finished `hf-warmup train`.
        run: METHOD--SEED, a folder of `study_folder/models`.
        out: the checkpoint folder, whose name becomes the model's; it appears when it is complete. Until then complete
            blocks of images lie in `folder_of_work(out)`, so the same call goes on after a kill.
        data_folder: copy of the data set.
        dtype, max_shard_size: how weights are stored, see `store_model`; by default as they were trained.
        placing: where it is certified, by which method, how many images at once, and of how many radii are looked for.
        progress: see `assess`.

    Returns:
        `out`.

    Raises:
        ConfigError: if the study, the run or the data cannot be used, the run diverged, certifying gives another count
            than the study's, or `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder: choose another, or remove it.")
    study, arm, trained = _find_run(study_folder, run)
    recipe = _recipe(study, arm["name"], trained["seed"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        _work_until_made(out) as kept,
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary,
    ):
        folder = Path(temporary) / out.name
        folder.mkdir()
        store_model(study_folder / "models" / run, folder, dtype=dtype, max_shard_size=max_shard_size)
        found = _certify(folder, recipe, data_folder, placing, progress, kept)
        certificate, attack = found.certificate, found.attack
        _agree(certificate, study, trained, stored_type(folder))
        write_json(folder / "certificate.json", certificate)
        write_json(folder / "attack.json", attack)
        for name, content in named_evidence(certificate, found.files).items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_bytes(folder / name, content)
        write_text(folder / "training.yaml", recipe_text(recipe.model_dump(mode="json")))
        timing = read_timings(study_folder).get(run)
        results = _describe(folder, certificate, attack, recipe, study, arm, timing, placing.name)
        write_json(folder / "results.json", {**results, **_storage(folder, trained)})
        write_text(folder / "README.md", render_card(read_json(folder / "results.json")))
        check_checkpoint(folder)
        folder.replace(out)
    return out


def folder_of_work(out: Path) -> Path:
    """Where blocks of images are kept while a checkpoint is made: beside it, whose own folder is always complete."""
    return out.with_name(f".{out.name}.work")


@contextmanager
def _work_until_made(out: Path) -> Iterator[Path]:
    """That folder, removed as soon as the checkpoint is made or refused."""
    folder = folder_of_work(out)
    try:
        yield folder
    except ConfigError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _find_run(study_folder: Path, run: str) -> tuple[Record, Record, Record]:
    """The study's results, the run's method and the run in them."""
    try:
        study = read_json(study_folder / "results.json")
        found = {f"{arm['name']}--{each['seed']}": (arm, each) for arm in study["arms"] for each in arm["runs"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{study_folder} is not a finished study of `hf-warmup train` (no usable results.json): run the recipe to "
            f"its end first."
        ) from None
    if run not in found:
        raise ConfigError(f"{study_folder} has no run {run!r}; it has {', '.join(found)}.")
    model_files(study_folder / "models" / run)
    arm, trained = found[run]
    if trained.get("diverged"):
        raise ConfigError(f"{run} diverged in training: there is nothing to publish.")
    return study, arm, trained


def _recipe(study: Record, arm: str, seed: int) -> CertifiedStudyConfig:
    """The study's recipe with one method and one seed."""
    arms = [each for each in study["config"]["arms"] if each["name"] == arm]
    try:
        recipe = CertifiedStudyConfig.model_validate({**study["config"], "arms": arms, "seeds": [seed]})
    except ValidationError as error:
        raise ConfigError(f"the study's recipe is not one of this version: {error.errors()[0]['msg']}.") from None
    if Path(recipe.data.name).is_absolute() or recipe.data.name.startswith("."):
        raise ConfigError(
            f"the recipe's data.name is a path, {recipe.data.name!r}, which nobody else has: name the Hub's data set "
            f"there and give the copy as data.folder."
        )
    return recipe


def _certify(
    folder: Path,
    recipe: CertifiedStudyConfig,
    data_folder: str | None,
    placing: Placing,
    progress: Progress | None,
    kept: Path,
) -> Results:
    """Prove and attack as `hf-warmup certify` does, block by block, which are kept; draws `radius.png`."""
    images = load_test_images(folder, recipe, data_folder)
    largest, data = min(1.0, 4 * parse_eps(recipe.eps)), recipe.data
    some = placing.radius_examples
    try:
        model, size = placing.put(load_model(folder, images), images[:1]["pixel_values"])
        claim = Claim(ModelSource(folder), data.name, data.test_split, recipe.eps, largest, recipe.pgd, some)
        parts = claim, model, images
        work = Blockwise(placing.method, progress=progress)
        found = certify_split(*parts, kept_work(*parts, kept, work, batch_size=size))
    except (UnsupportedOperation, ValueError) as error:
        raise ConfigError(f"{folder.name}: {error}") from None
    figure = radius_curve(
        radii_in(found.certificate),
        parse_eps(recipe.eps),
        name=folder.name,
        attacked=found.attack["pgd_accuracy"],
        clean=found.certificate["clean_accuracy"],
        proven=by_stages(found.certificate),
    )
    save_figure(figure, folder / "radius.png")
    return found


def _agree(certificate: Record, study: Record, trained: Record, stored: StorageType) -> None:
    # A study proves by intervals alone.
    found = certificate.get("num_verified_by", {}).get("ibp", certificate["num_verified"])
    before = trained["num_verified"]
    count, share = trained["num_examples"], MOST_DIFFERENT if stored == "float32" else MOST_DIFFERENT_ROUNDED
    if count == certificate["num_examples"] and abs(found - before) > share * count:
        rounding = "" if stored == "float32" else f", or {stored} is too coarse for it: --dtype float32 tells which"
        raise ConfigError(
            f"the study proved {before} of {count} images, certifying its model again proves {found}: the model or "
            f"the data are not those of {study['name']}{rounding}."
        )


def _storage(folder: Path, trained: Record) -> Record:
    """How weights are stored, where it is not as they were trained, and what the study had found before it."""
    if stored_type(folder) == "float32":
        return {}
    count, attacked = trained["num_examples"], trained["num_attacked"]
    study_counts = {
        "num_examples": count,
        "num_clean": round(trained["clean_accuracy"] * count),
        "num_verified": trained["num_verified"],
        "num_attacked": attacked,
        "num_broken": attacked - round(trained.get("pgd_accuracy", 1.0) * attacked),
    }
    return {"storage": {"dtype": stored_type(folder), "study_counts": study_counts}}


def _describe(
    folder: Path,
    certificate: Record,
    attack: Record,
    recipe: CertifiedStudyConfig,
    study: Record,
    arm: Record,
    timing: Record | None,
    certified_on: str,
) -> Record:
    """Everything that a card says."""
    counts, proofs = counts_of(certificate, attack), proofs_of(certificate)
    return {
        "format": 1,
        "name": folder.name,
        "task": "image-classification",
        "license": "apache-2.0",
        "base_paper": PAPER,
        **statement(certificate, attack),
        "files_sha256": {name: file_digest(folder / name) for name in HASHED},
        "counts": counts,
        **({} if proofs is None else {"proofs": proofs}),
        "scores": scores_of(counts),
        "radii": curve_of(certificate),
        "model": model_facts(folder),
        "training": _training(recipe, study, timing),
        "study": {
            "name": study["name"],
            "num_examples": study["sizes"]["test"],
            "seeds": [run["seed"] for run in arm["runs"]],
            **{key: arm[key] for key in ("clean_accuracy", "pgd_accuracy", "verified_accuracy")},
            "verified_by_seed": [run["verified_accuracy"] for run in arm["runs"]],
        },
        "certified_on": certified_on,
        "versions": {"training": study["versions"], "certification": attack["versions"]},
        "recipe": recipe.model_dump(mode="json"),
    }


def _training(recipe: CertifiedStudyConfig, study: Record, timing: Record | None) -> Record:
    """How the run was trained and what it cost."""
    updates = study["updates_per_epoch"] * recipe.training.epochs
    # The clock of a run that was killed has not seen what followed its last evaluation.
    whole = timing is not None and timing["steps"] >= updates
    return {
        "method": recipe.arms[0].name,
        "seed": recipe.seeds[0],
        "num_examples": study["sizes"]["train"],
        "epochs": recipe.training.epochs,
        "updates": updates,
        "seconds": timing["seconds"] if timing is not None and whole else None,
        "hardware": study.get("hardware"),
        "commit": study.get("commit"),
    }
