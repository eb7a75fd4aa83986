"""The shape of the package: who may import whom, and what is public."""

import ast
from pathlib import Path

import pytest

import hf_warmup
from hf_warmup import bounds, schedules


PACKAGE = Path(hf_warmup.__file__).parent
# A file may import from files on earlier lines only; folders stand for all their files.
ORDER = [
    [
        "errors",
        "records",
        "provenance",
        "precision",
        "augmentation",
        "schedules",
        "update_statistics",
        "_version",
        "bounds",
        "models",
    ],
    [
        "_trainer_feed",
        "schedule_options",
        "loaders",
        "checkpoints",
        "config",
        "evaluation",
        "paired",
        "curves",
        "smoothness",
    ],
    ["certified", "lr_scheduler", "data", "training", "statistics", "study_folder"],
    ["certified_config", "loss_adaptive"],
    ["image_data"],
    ["_registry", "cells", "plots", "assessment", "pixel_classifier"],
    ["comparison", "report", "preview", "certified_cells"],
    [
        "compare_command",
        "launcher",
        "preview_command",
        "certified_study",
        "certified_report",
        "certify_command",
        "smoothness_command",
    ],
    ["hub"],
    ["train_command"],
    ["cli_hub"],
    ["cli"],
    ["__init__", "__main__"],
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "metrics" not in path.parts)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_warmup"):
            parts = (node.module or "").split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names if alias.name in LEVEL}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported(path) - {own}:
        assert LEVEL[other] < LEVEL[own], (own, other)


def test_schedules_need_nothing_but_the_standard_library() -> None:
    for path in (PACKAGE / "schedules").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} == {"math"}
            elif isinstance(node, ast.ImportFrom):
                assert node.module in ("collections.abc",) or (node.module or "").startswith("hf_warmup.schedules")


def test_certified_training_meets_schedules_only_through_what_it_is_given() -> None:
    for path in (PACKAGE / "certified").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and "schedule" in (node.module or ""):
                assert node.module == "hf_warmup.schedules"
                assert {alias.name for alias in node.names} <= {"Schedule", "constant"}
            assert not (isinstance(node, ast.Name) and node.id in ("smoothed_ramp", "multistep_decay"))


@pytest.mark.parametrize("module", [hf_warmup, schedules, bounds])
def test_public_names_are_sorted_and_exist(module: object) -> None:
    names = module.__all__
    # As ruff sorts them: constants, classes, functions.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018
    assert set(hf_warmup.__all__) <= set(dir(hf_warmup))
