"""Certified recipes: every file runs on made-up images of its data's shape, and published results are its own."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hf_warmup.certified.objectives import CrownIbp, Ibp, Method, MtlIbp, Sabr, TrainingAttack
from hf_warmup.data.images import load_images
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.method import make_method
from hf_warmup.studies.certification.run import make_decay, make_objective
from hf_warmup.studies.certification.study import certified_study
from hf_warmup.studies.runner import run_study
from hf_warmup.yaml_config import parse


FOLDER = Path(__file__).parents[2] / "recipes" / "certified"
RECIPES = sorted(FOLDER.glob("*.yaml"))
# Of CTBench's settings: epochs, milestones, ramp and batch size.
LENGTHS = {
    "mnist": (70, [50, 60], (0, 20), 256),
    "cifar10_eps2": (160, [120, 140], (1, 80), 128),
    "cifar10_eps8": (240, [200, 220], (1, 120), 128),
    "tinyimagenet": (160, [120, 140], (1, 80), 128),
}
SHAPES = {"mnist": (28, 28), "fashion": (28, 28), "cifar10": (32, 32, 3), "tinyimagenet": (64, 64, 3)}


def make_images(folder: Path, shape: tuple[int, ...], column: str, splits: tuple[str, str]) -> Path:
    drawn = np.random.default_rng(0)
    folder.mkdir()
    for split in splits:
        pictures = [Image.fromarray(drawn.integers(0, 256, shape, dtype=np.uint8)) for _ in range(8)]
        features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
        made = datasets.Dataset.from_dict({column: pictures, "label": [*range(8)]}, features=features)
        made.to_parquet(folder / f"{split.replace('valid', 'validation')}.parquet")
    return folder


# This one trains its network as it is. Its siblings have the same and differ in numbers, so they train a small one.
WHOLE = "cifar10_eps8_255_70"
SMALL = "model={architecture: cnn_small, hidden_sizes: [4, 4], dense_size: 8}"


def test_all_data_sets_have_a_recipe() -> None:
    names = {path.stem for path in RECIPES}
    assert names >= {"digits", "fashion_mnist", "mnist_eps0.1", "mnist_eps0.3", "mnist_eps0.4", "cifar10_eps2_255"}
    assert names >= {"cifar10_eps8_255_70", "cifar10_eps8_255_160", "tinyimagenet_eps1_255"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs_two_updates(path: Path, tmp_path: Path) -> None:
    whole = parse(CertifiedStudyConfig, path)
    assert path.read_text().startswith("#")
    overrides = ["training.epochs=1", "training.ramp_start=0", "training.ramp_epochs=1", "training.milestones=[]"]
    overrides += [
        "training.batch_size=2",
        "pgd.steps=1",
        "training.evaluate_every=1",
        "training.checkpoint_every=null",
        "training.swa_start=null",
    ]
    if path.stem != WHOLE and whole.model["architecture"] == "cnn7":
        overrides.append(SMALL)
    accumulation = whole.training.gradient_accumulation_steps
    overrides += [f"data.train_examples={4 * accumulation}", "data.test_examples=2"]
    if whole.data.validation is not None:
        overrides.append("data.validation=2")
    if whole.data.name != "digits":
        shape = next(shape for name, shape in SHAPES.items() if path.stem.startswith(name))
        splits = (whole.data.train_split, whole.data.test_split)
        folder = make_images(tmp_path / "data", shape, "img" if "cifar" in path.stem else "image", splits)
        overrides.append(f"data.folder={folder}")
        if whole.data.test_split == "valid":
            overrides.append("data.test_split=validation")
    study = parse(CertifiedStudyConfig, path, overrides=tuple(overrides), num_seeds=1)
    study = study.model_copy(update={"arms": study.arms[-1:]})
    results = run_study(certified_study(study, load_images(study.data)), tmp_path / "out")
    assert results["updates_per_epoch"] == 2
    [arm] = results["arms"]
    assert 0 <= arm["verified_accuracy"]["mean"] <= arm["pgd_accuracy"]["mean"] <= arm["clean_accuracy"]["mean"] <= 1


@pytest.mark.parametrize(
    ("recipe", "length", "values"),
    [
        (
            "cifar10_eps8_255_160",
            391,
            {391: 0, 392: 6.45326414e-19, 4301: 1.50829563e-4, 8210: 2.41203883e-3, 8211: 8 / 255 / 13}
            | {19941: 1.68929110e-2, 31670: 3.13713146e-2, 31671: 8 / 255, 60000: 8 / 255},
        ),
        ("cifar10_eps8_255_70", 391, {391: 0, 1368: 1.50521197e-4, 8211: 8 / 255}),
        (
            "mnist_eps0.4",
            235,
            {
                0: 0,
                1: 1.61422910e-14,
                587: 1.91653863e-3,
                1175: 0.4 / 13,
                2937: 0.215332242,
                4699: 0.399895254,
                4700: 0.4,
            },
        ),
        (
            "tinyimagenet_eps1_255",
            782,
            {782: 0, 2737: 1.88536953e-5, 4692: 3.01659125e-4, 10557: 2.11161388e-3, 16422: 1 / 255},
        ),
    ],
)
def test_radius_grows_as_the_paper_grows_it(recipe: str, length: int, values: dict[int, float]) -> None:
    """The specification's values, which count 235, 391 and 782 batches an epoch."""
    study = parse(CertifiedStudyConfig, FOLDER / f"{recipe}.yaml")
    objective = make_objective(
        study.training,
        study.arms[1],
        eps=study.train_eps or study.eps,
        reg_weight=study.reg_weight,
        epoch_length=length,
        device=torch.device("cpu"),
    )
    for step, eps in values.items():
        assert objective.eps_max * objective.ramp(step) == pytest.approx(eps, rel=1e-8)


def test_learning_rate_falls_as_the_paper_lets_it_fall() -> None:
    study = parse(CertifiedStudyConfig, FOLDER / "cifar10_eps8_255_160.yaml")
    decay = make_decay(study.training, 391)
    rates = [study.training.learning_rate * decay((epoch - 1) * 391) for epoch in (1, 120, 121, 140, 141, 160)]
    assert rates == pytest.approx([5e-4, 5e-4, 1e-4, 1e-4, 2e-5, 2e-5], rel=1e-12)


def test_the_method_alone_is_the_second_arm_of_both() -> None:
    names = ("cifar10_eps8_255_160", "cifar10_eps8_255_160_short_warmup")
    both, ours = (parse(CertifiedStudyConfig, FOLDER / f"{name}.yaml") for name in names)
    assert ours.arms == [both.arms[1]]
    same = {"name": both.name, "reproduces": both.reproduces, "arms": both.arms}
    assert ours.model_copy(update=same) == both


@pytest.mark.parametrize(
    ("recipe", "epochs", "ramp", "milestones"),
    [
        ("cifar10_eps8_255_160", 160, (1, 80), [120, 140]),
        ("cifar10_eps8_255_240", 240, (1, 120), [200, 220]),
        ("cifar10_eps2_255", 160, (1, 80), [120, 140]),
        ("mnist_eps0.4", 70, (0, 20), [50, 60]),
    ],
)
def test_schedules_are_those_of_the_papers(
    recipe: str, epochs: int, ramp: tuple[int, int], milestones: list[int]
) -> None:
    training = parse(CertifiedStudyConfig, FOLDER / f"{recipe}.yaml").training
    assert (training.epochs, training.milestones) == (epochs, milestones)
    assert (training.ramp_start, training.ramp_epochs) == ramp
    assert (training.precision == "tf32") == recipe.startswith("cifar10")
    assert (training.l1_weight, training.robust_weight) == ((1e-6, 0.8) if recipe == "cifar10_eps2_255" else (0, 1))
    assert training.precise_batch_norm == (recipe in ("cifar10_eps8_255_240", "cifar10_eps2_255"))


@pytest.mark.parametrize(
    ("recipe", "train_eps", "method", "l1_weight", "robust_weight", "swa_start"),
    [
        ("mnist_eps0.1_crown_ibp", "0.2", CrownIbp(1.0), 5e-6, 0.7, None),
        ("mnist_eps0.1_sabr", "0.2", Sabr(0.4, attack=TrainingAttack(10, 3)), 1e-6, 0.7, None),
        ("mnist_eps0.1_mtl_ibp", "0.2", MtlIbp(0.02, TrainingAttack(10, 3)), 1e-5, 0.7, 65),
        ("mnist_eps0.3_crown_ibp", None, CrownIbp(1.0), 1e-6, 0.7, None),
        ("mnist_eps0.3_sabr", None, Sabr(0.9, attack=TrainingAttack(5, 3)), 2e-6, 1, None),
        ("mnist_eps0.3_mtl_ibp", None, MtlIbp(0.5, TrainingAttack(1, 3)), 1e-6, 1, 65),
        ("cifar10_eps2_255_crown_ibp", None, CrownIbp(1.0), 3e-6, 1, None),
        ("cifar10_eps2_255_sabr", "3/255", Sabr(0.1, 0.8, TrainingAttack(5, 3)), 1e-6, 1, None),
        ("cifar10_eps2_255_mtl_ibp", None, MtlIbp(0.01, TrainingAttack(1, 3, 2.0)), 3e-6, 0.9, 150),
        ("cifar10_eps8_255_crown_ibp", None, CrownIbp(1.0), 0, 1, None),
        ("cifar10_eps8_255_sabr", None, Sabr(0.9, attack=TrainingAttack(5, 3)), 0, 1, None),
        ("cifar10_eps8_255_mtl_ibp", None, MtlIbp(0.6, TrainingAttack(1, 3)), 0, 1, 225),
        ("tinyimagenet_eps1_255_160", None, Ibp(), 1e-5, 1, None),
        ("tinyimagenet_eps1_255_sabr", None, Sabr(0.4, attack=TrainingAttack(1, 3)), 5e-5, 1, None),
        ("tinyimagenet_eps1_255_mtl_ibp", None, MtlIbp(0.05, TrainingAttack(1, 3, 1.5)), 5e-5, 0.7, 150),
    ],
)
def test_methods_have_the_settings_of_the_benchmark(
    recipe: str, train_eps: str | None, method: Method, l1_weight: float, robust_weight: float, swa_start: int | None
) -> None:
    """Specification, 5.6."""
    study = parse(CertifiedStudyConfig, FOLDER / f"{recipe}.yaml")
    training = study.training
    assert make_method(training, study.arms[0]) == method
    assert (study.train_eps, training.l1_weight, training.robust_weight) == (train_eps, l1_weight, robust_weight)
    assert (training.swa_start, training.precise_batch_norm) == (swa_start, True)
    epochs, milestones, ramp, batch_size = next(found for name, found in LENGTHS.items() if recipe.startswith(name))
    assert (training.epochs, training.milestones, training.batch_size) == (epochs, milestones, batch_size)
    assert (training.ramp_start, training.ramp_epochs) == ramp


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/results.json")), ids=lambda path: path.parent.name)
def test_published_results_are_those_of_the_recipe(path: Path) -> None:
    results = json.loads(path.read_text())
    study = parse(CertifiedStudyConfig, path.parent.with_suffix(path.parent.suffix + ".yaml"))
    seeds = {run["seed"] for arm in results["arms"] for run in arm["runs"]}
    # Parsed, so that an option that came later has its default.
    made_by = CertifiedStudyConfig.model_validate(results["config"])
    assert made_by.model_copy(update={"seeds": study.seeds}) == study
    assert seeds == set(results["config"]["seeds"])
    for run in (run for arm in results["arms"] for run in arm["runs"]):
        assert run["verified_accuracy"] <= run["pgd_accuracy"] <= run["clean_accuracy"]
        assert run["num_attacked"] == run["num_examples"] == results["sizes"]["test"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/results.json")), ids=lambda path: path.parent.name)
def test_documents_state_the_results(path: Path) -> None:
    results = json.loads(path.read_text())
    lines = (FOLDER.parent / "README.md").read_text().splitlines()
    (row,) = (line for line in lines if f"(certified/{path.parent.name}/report.md)" in line)
    for arm in results["arms"]:
        found = arm["verified_accuracy"]
        spread = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
        assert f"{100 * found['mean']:.2f}{spread} %" in row
    report = (path.parent / "report.md").read_text()
    for difference in results["differences"]:
        assert f"{100 * difference['verified_accuracy']['mean']:+.2f} points" in report
