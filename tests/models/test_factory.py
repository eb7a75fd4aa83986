"""Models that a person's function makes: found, called and filled, and one clear error for each mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from hf_warmup.errors import ConfigError
from hf_warmup.models.factory import file_of, find_factory, is_factory, logits_of_zeros, make_own


FILE = """
from torch import nn
WIDTH = 4
def make(width=WIDTH):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
def tied():
    model = make(4)
    model[3] = nn.Linear(4, 4)
    model[3].weight = model[1].weight
    return model
def number(): return 3
def the_class(): return nn.Linear
def fails(): raise KeyError("oops")
def needs(width): return make(width)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    name = f"net_{abs(hash(str(tmp_path)))}.py"
    (tmp_path / name).write_text(FILE)
    (tmp_path / "broken_file.py").write_text("import no_such_package\n")
    return Path(name)


def test_a_function_is_found_called_and_its_weights_are_filled(here: Path) -> None:
    assert is_factory(f"{here}:make")
    assert not is_factory("somebody/model")
    assert not is_factory(str(here.absolute().parent))
    assert find_factory(f"{here}:make") is find_factory(f"{here.absolute()}:make")
    assert find_factory("torch.nn:Identity") is nn.Identity
    assert file_of(f"{here}:make") == here.absolute()
    for name, settings in (("make", {"width": 7}), ("tied", {})):
        first = make_own(f"{here}:{name}", settings)
        save_model(first, "weights.safetensors")
        again = make_own(f"{here}:{name}", settings, weights=Path("weights.safetensors"))
        images = torch.rand(2, 1, 2, 2)
        assert torch.equal(first(images), again(images))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nothing", {}, "has no function nothing; it has make, tied, number, the_class, fails, needs"),
        ("WIDTH", {}, "has no function WIDTH"),
        ("number", {}, "must return a torch nn.Module, got int"),
        ("the_class", {}, "return an instance, not the class"),
        ("fails", {}, r"failed \(KeyError: 'oops', .*net_.*line 13\)"),
        ("needs", {}, "cannot be called with no arguments: missing a required argument: 'width'"),
        ("make", {"depth": 2}, "cannot be called with depth=...: got an unexpected keyword argument 'depth'"),
        ("a b", {}, "must be FILE.py:FUNCTION or MODULE:FUNCTION"),
    ],
)
def test_functions_that_cannot_be_used(here: Path, name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_own(f"{here}:{name}", settings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_file.py:make", "there is no file .*no_such_file.py; paths are read from where you are"),
        ("broken_file.py:make", "cannot be imported .ModuleNotFoundError: No module named 'no_such_package'.*line 1"),
        ("no_such_module:make", "cannot be imported"),
    ],
)
def test_files_that_cannot_be_used(here: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_factory(name)


def other(change: Callable[[dict[str, Any]], Any]) -> Callable[[nn.Module], None]:
    def write(model: nn.Module) -> None:
        state = dict(model.state_dict())
        change(state)
        save_file(state, "weights.safetensors")

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda model: None, "there is no such file"),
        (lambda model: torch.save(model.state_dict(), "weights.safetensors"), "no safetensors file .*can run code"),
        (other(lambda state: state.pop("1.bias")), "it lacks 1.bias"),
        (other(lambda state: state.update(head=torch.ones(1))), "the model has no head"),
        (other(lambda state: state.update({"1.bias": torch.ones(9)})), r"1.bias is \(9,\) there and \(4,\)"),
    ],
)
def test_weights_that_do_not_fit(here: Path, write: Callable[[nn.Module], None], message: str) -> None:
    write(make_own(f"{here}:make"))
    with pytest.raises(ConfigError, match=message):
        make_own(f"{here}:make", weights=Path("weights.safetensors"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(5, 3), "does not take images of 1 x 2 x 2"),
        (nn.Flatten(0), r"must return logits, \(B, K\) with K >= 2.*gave shape \(4,\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), r"gave shape \(1, 1\)"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(4, 3)), "gave tuple"),
    ],
)
def test_modules_that_are_no_classifiers_of_these_images(model: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        logits_of_zeros(model, (1, 2, 2), "net.py:make")
    assert model.training
