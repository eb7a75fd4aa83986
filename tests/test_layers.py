"""The shape of the package: which room may import from which, what is public, and how long a file or function is."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import hf_warmup
from hf_warmup import bounds, schedules


PACKAGE = Path(hf_warmup.__file__).parent
# A room imports from rooms before it only; files of the package's root are rooms of their own.
ROOMS = [
    "errors",
    "yaml_config",
    "_registry",
    "numpy_verifier",
    "schedules",
    "bounds",
    "statistics",
    "records",
    "lr_scheduler",
    "smoothness",
    "models",
    "data",
    "training",
    "certified",
    "studies",
    "report",
    "hub",
    "cli",
    "__init__",
    "__main__",
]
# `evaluate` loads these by their paths; they are no part of the package that Python imports.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "metrics" not in path.parts)
# Circles of files that are wanted, each with its reason.
CIRCLES: dict[frozenset[str], str] = {}
# What may be longer or wider than the rest, each with its reason.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "loss_adaptive.get_loss_adaptive_schedule": "a line for each option that a person may write, and no branch",
}
OPTIONS = "a command's options: typer reads them from the signature"
TORCH = "the signature of torch's own function, whose place the rule takes"
WIDE_SIGNATURES = {
    "affine._batch_norm": TORCH,
    "attention.multi_head_attention": TORCH,
    "cascade.certify": "three ways to say a perturbation, and how long and how hard to try",
    "certify.certify": OPTIONS,
    "compare.compare": OPTIONS,
    "export.add_verdicts": OPTIONS,
    "export.export": OPTIONS,
    "package.package": OPTIONS,
    "preview.preview_command": OPTIONS,
    "train.train": OPTIONS,
    "loop.train": "the six objects that every loop takes, its config, and two that watch",
    "certify.certify_and_report": "the command's options, for whoever calls it in Python",
    "compare.compare_and_report": "the command's options, for whoever calls it in Python",
    "scheduler.get_schedule": "a schedule's options, as transformers passes them",
    "loss_adaptive.get_loss_adaptive_schedule": "a schedule's options, as transformers passes them",
    "configuration_certified.__init__": "the keys of config.json, as every configuration of transformers takes them",
    "fitting.fit_certified": "a beginner's one call, where each option has a default",
    "verifier.reprove": "a folder, a certificate and its images, and what a caller may add",
    "update.make_update": "what the loop has in its hands, passed on to the one update",
}


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    """Dotted name of a file, without the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in FILES}


@cache
def imports(path: Path) -> set[str]:
    """Files of the package that a file imports anywhere in it: at its head, inside functions, by a name in a text."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "hf_warmup":
            module = (node.module or "").removeprefix("hf_warmup").lstrip(".")
            for alias in node.names:
                below = f"{module}.{alias.name}".lstrip(".")
                found.add(below if below in MODULES else module or "__init__")
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "hf_warmup"]
            found |= {name.removeprefix("hf_warmup").lstrip(".") or "__init__" for name in names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.removeprefix("hf_warmup.")
            found |= {name} if name != node.value and name in MODULES else set()
    return found - {module_of(path)}


def code_lines(function: ast.FunctionDef, lines: list[str]) -> int:
    """Lines of a function without its docstring, comments and blank lines."""
    first = function.body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    text = range(first.lineno, (first.end_lineno or 0) + 1) if is_text else range(0)
    here = range(function.lineno, (function.end_lineno or 0) + 1)
    found = [lines[number - 1].strip() for number in here if number not in text]
    return len([line for line in found if line and not line.startswith("#")])


def width(function: ast.FunctionDef) -> int:
    """Parameters of a function, without `self` and `cls`."""
    parts = function.args
    named = [part.arg for part in (*parts.posonlyargs, *parts.args, *parts.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + bool(parts.vararg) + bool(parts.kwarg)


def room(module: str) -> str:
    """The first part of a dotted name."""
    return module.split(".")[0]


def test_every_file_has_a_room() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 6


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    for other in imports(MODULES[module]):
        assert other in MODULES, other
        if room(other) != room(module):
            assert ROOMS.index(room(other)) < ROOMS.index(room(module)), (module, other)


def test_no_circle_of_files() -> None:
    graph = {module: imports(path) & MODULES.keys() for module, path in MODULES.items()}
    # What is imported by nothing that is left, and imports nothing that is left, is in no circle.
    while free := {name for name, others in graph.items() if not others}:
        graph = {name: others - free for name, others in graph.items() if name not in free}
    while unused := graph.keys() - set().union(*graph.values()):
        graph = {name: others for name, others in graph.items() if name not in unused}
    wanted = set().union(*CIRCLES)
    assert graph.keys() <= wanted, {name: sorted(others) for name, others in graph.items()}


def test_schedules_need_nothing_but_the_standard_library() -> None:
    for path in (PACKAGE / "schedules").glob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} == {"math"}
            elif isinstance(node, ast.ImportFrom):
                assert node.module in ("collections.abc",) or (node.module or "").startswith("hf_warmup.schedules")


def test_numpy_verifier_needs_nothing_of_the_package() -> None:
    for module, path in MODULES.items():
        if room(module) == "numpy_verifier":
            assert {room(other) for other in imports(path)} <= {"numpy_verifier"}


def test_nobody_imports_the_command_line() -> None:
    for module, path in MODULES.items():
        if module != "__main__":
            assert room(module) == "cli" or "cli" not in {room(other) for other in imports(path)}, module


def test_certified_training_meets_schedules_only_through_what_it_is_given() -> None:
    for path in (PACKAGE / "certified").glob("*.py"):
        for node in ast.walk(parsed(path)):
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


def written() -> list[Path]:
    """Every Python file of the project."""
    root = PACKAGE.parent
    return sorted(path for folder in ("hf_warmup", "recipes", "tests") for path in (root / folder).rglob("*.py"))


def test_files_functions_and_signatures_are_short() -> None:
    files, functions, signatures = set(), set(), set()
    for path in written():
        lines = path.read_text(encoding="utf-8").splitlines()
        files |= {path.stem} if len(lines) > 300 else set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                functions |= {f"{path.stem}.{node.name}"} if code_lines(node, lines) > 50 else set()
                signatures |= {f"{path.stem}.{node.name}"} if width(node) > 8 else set()
    assert files == set(LONG_FILES), "a file has at most 300 lines, or a reason above"
    assert functions == set(LONG_FUNCTIONS), "a function has at most 50 lines of code, or a reason above"
    assert signatures == set(WIDE_SIGNATURES), "a function takes at most 8 parameters, or a reason stands above"


@pytest.mark.parametrize("page", sorted(PACKAGE.rglob("README.md")), ids=lambda path: path.parent.name)
def test_pages_of_folders_name_what_is_there(page: Path) -> None:
    rows = re.findall(r"^\|.*\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    links = [link.removesuffix("/README.md") for row in rows for link in re.findall(r"\]\(([\w./]+)\)", row)]
    present = {path.name for path in page.parent.iterdir()} - {"README.md", "__init__.py", "__pycache__"}
    assert sorted(link for link in links if "/" not in link) == sorted(present)
