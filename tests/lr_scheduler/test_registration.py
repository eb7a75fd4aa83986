"""Names in transformers: wherever its own names work, ours do. Runs on transformers 4.57 and later."""

import copy
import importlib
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bare import Bare
from torch import nn
from transformers import HfArgumentParser, TrainingArguments, get_scheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType

import hf_warmup
from hf_warmup.lr_scheduler import registration as _registry
from hf_warmup.schedules.tables import DECAYS, WARMUPS


NAMES = hf_warmup.registered_schedulers()[:35]


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    server = Bare()
    yield server
    server.close()


def optimizer() -> torch.optim.AdamW:
    return torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.9, 0.8))


def arguments(tmp_path: Path, name: str, **options: object) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), lr_scheduler_type=name, report_to=[], **options)


def test_plain_and_combined_names_are_registered() -> None:
    assert len(WARMUPS) == 5
    assert len(DECAYS) == 6
    assert set(NAMES) == {*WARMUPS, *(f"{decay}_with_{warmup}" for decay in DECAYS for warmup in WARMUPS)}
    assert len(set(NAMES)) == 35
    assert {"untuned_linear_warmup", "cosine_with_untuned_linear_warmup", "wsd_with_radam_warmup"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_real_member(name: str, tmp_path: Path) -> None:
    member = SchedulerType(name)
    assert member is SchedulerType[name.upper()] is getattr(SchedulerType, name.upper())
    assert isinstance(member, SchedulerType)
    assert member == name
    assert hash(member) == hash(name)
    assert member in list(SchedulerType)
    assert copy.deepcopy(member) is copy.copy(member) is member
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(member, protocol)) is member
    parsed = arguments(tmp_path, name)
    assert parsed.lr_scheduler_type is member
    assert json.loads(parsed.to_json_string())["lr_scheduler_type"] == name


@pytest.mark.parametrize("name", NAMES)
def test_get_scheduler_builds_it(name: str) -> None:
    warmup_steps = 0 if ("untuned" in name or "radam" in name) else 5
    scheduler = get_scheduler(name, optimizer(), num_warmup_steps=warmup_steps, num_training_steps=100)
    assert isinstance(scheduler, hf_warmup.WarmupScheduler)
    assert 0 <= scheduler.get_last_lr()[0] < 1


def test_stock_names_are_as_they_were() -> None:
    assert SchedulerType("linear") is SchedulerType.LINEAR
    assert pickle.loads(pickle.dumps(SchedulerType.COSINE)) is SchedulerType.COSINE
    values = [member.value for member in SchedulerType]
    assert len(values) == len(set(values))
    with pytest.raises(ValueError, match="no_such_schedule"):
        SchedulerType("no_such_schedule")


def test_command_line_flags(tmp_path: Path) -> None:
    [parsed] = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(
        [
            *("--output_dir", str(tmp_path), "--lr_scheduler_type", "untuned_linear_warmup"),
            *("--lr_scheduler_kwargs", '{"decay": "cosine", "min_lr_ratio": 0.1}'),
        ]
    )
    assert parsed.lr_scheduler_type == "untuned_linear_warmup"
    scheduler = get_scheduler(
        parsed.lr_scheduler_type,
        optimizer(),
        num_warmup_steps=0,
        num_training_steps=100,
        scheduler_specific_kwargs=parsed.lr_scheduler_kwargs,
    )
    assert scheduler.decays[0].keywords == {"num_training_steps": 100, "min_lr_ratio": 0.1}


def test_arguments_written_as_json_are_read_back(tmp_path: Path) -> None:
    options = {"decay": "cosine", "min_lr_ratio": 0.1}
    saved = arguments(tmp_path, "untuned_linear_warmup", lr_scheduler_kwargs=options)
    path = tmp_path / "arguments.json"
    chosen = ("output_dir", "lr_scheduler_type", "lr_scheduler_kwargs")
    path.write_text(json.dumps({key: saved.to_dict()[key] for key in chosen}))
    [read] = HfArgumentParser(TrainingArguments).parse_json_file(str(path))
    assert read.lr_scheduler_type is saved.lr_scheduler_type
    assert read.lr_scheduler_kwargs == options


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
def test_a_pickled_name_brings_the_package_with_it(protocol: int, bare: Bare) -> None:
    # What a spawned worker does: unpickle in an interpreter that has nothing of us.
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).value)"
    sent = pickle.dumps(SchedulerType("wsd_with_radam_warmup"), protocol)
    assert bare(code, sent=sent).stdout.strip() == "wsd_with_radam_warmup"


def test_names_pickled_by_an_earlier_version_are_loaded(bare: Bare) -> None:
    # Made once, by version 0.1.0; it must never be made again.
    path = Path(__file__).parent / "data" / "names_of_0.1.0.pickle"
    code = (
        "import pickle, sys; assert 'hf_warmup' not in sys.modules; "
        f"print([name.value for name in pickle.load(open({str(path)!r}, 'rb'))])"
    )
    names = ["untuned_linear_warmup", "radam_warmup", "cosine_with_untuned_exponential_warmup", "loss_adaptive_warmup"]
    assert bare(code).stdout.strip() == str(names)
    assert b"hf_warmup._registry" in path.read_bytes()


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = (
        "import sys, hf_warmup\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'transformers', 'numpy'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("first", ["get_scheduler", "TrainingArguments", "Trainer"])
def test_names_are_registered_whichever_file_is_imported_first(first: str, bare: Bare) -> None:
    code = (
        "import sys, hf_warmup\n"
        f"from transformers import {first}\n"
        "ours, theirs = 'hf_warmup.models.modeling_certified', 'transformers.models.auto.modeling_auto'\n"
        "assert ours not in sys.modules or theirs in sys.modules\n"
        "from transformers import get_scheduler\n"
        "from transformers.trainer_utils import SchedulerType\n"
        "print(SchedulerType('untuned_linear_warmup').value)"
    )
    assert bare(code).stdout.strip() == "untuned_linear_warmup"


def test_a_name_that_somebody_else_took_before_us_stays_theirs(bare: Bare) -> None:
    code = (
        "from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION as table\n"
        "from transformers.trainer_utils import SchedulerType as kind\n"
        "theirs = str.__new__(kind, 'radam_warmup')\n"
        "theirs._name_, theirs._value_ = 'RADAM_WARMUP', 'radam_warmup'\n"
        "kind._value2member_map_['radam_warmup'] = theirs\n"
        "table[theirs] = 'their function'\n"
        "import hf_warmup\n"
        "assert kind('radam_warmup') is theirs and table[theirs] == 'their function'\n"
        "print(len(hf_warmup.registered_schedulers()), 'radam_warmup' in hf_warmup.registered_schedulers())\n"
    )
    found = bare(code)
    assert found.stdout.strip() == "48 False"
    assert "the scheduler name 'radam_warmup' is taken by another package; it keeps it." in found.stderr


def test_a_fresh_process_loads_saved_arguments_without_having_imported_us(tmp_path: Path, bare: Bare) -> None:
    path = tmp_path / "training_args.bin"
    torch.save(arguments(tmp_path, "cosine_with_untuned_linear_warmup"), path)
    code = (
        "import sys, torch; assert 'hf_warmup' not in sys.modules; "
        f"loaded = torch.load({str(path)!r}, weights_only=False); "
        "assert 'hf_warmup' in sys.modules; print(loaded.lr_scheduler_type.value)"
    )
    assert bare(code).stdout.strip() == "cosine_with_untuned_linear_warmup"


def test_loading_the_module_again_changes_nothing() -> None:
    before = dict(SchedulerType._value2member_map_)
    importlib.reload(_registry)
    assert before == SchedulerType._value2member_map_
    assert all(SchedulerType(name) is before[name] for name in NAMES)
    assert set(NAMES) <= set(_registry.registered_schedulers())


def test_own_schedules_can_be_added_and_replaced_by_their_owner_only() -> None:
    def constant(optimizer: torch.optim.Optimizer, **_: object) -> object:
        return torch.optim.lr_scheduler.ConstantLR(optimizer)

    _registry.register_scheduler("of_this_test", constant, exist_ok=True)
    assert type(get_scheduler("of_this_test", optimizer(), 0, 10)).__name__ == "ConstantLR"
    with pytest.raises(ValueError, match="registered already; pass exist_ok=True"):
        _registry.register_scheduler("of_this_test", constant)
    linear = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType.LINEAR]
    for exist_ok in (False, True):
        with pytest.raises(ValueError, match="already has a scheduler named 'linear', not ours to replace"):
            _registry.register_scheduler("linear", constant, exist_ok=exist_ok)
    assert TYPE_TO_SCHEDULER_FUNCTION[SchedulerType.LINEAR] is linear
    with pytest.raises(ValueError, match="must be a Python identifier"):
        _registry.register_scheduler("two words", constant)


@pytest.mark.parametrize(
    ("name", "options", "error", "expected"),
    [
        ("cosine_with_untuned_linear_warmup", {"decay": "linear"}, ValueError, "already fixes the decay to 'cosine'"),
        ("untuned_linear_warmup", {"warmup": "radam_warmup"}, ValueError, "already fixes the warmup"),
        ("untuned_linear_warmup", {"decay": "sqrt"}, ValueError, "unknown decay 'sqrt'"),
        ("untuned_linear_warmup", {"decya": "cosine"}, TypeError, "'decya'; choose one of decay, "),
        ("loss_adaptive_warmup", {"smothing": 0.5}, TypeError, "'smothing'; choose one of smoothing, "),
        (
            "radam_warmup",
            {"num_warmup_steps": 5},
            TypeError,
            "'radam_warmup' .its lengths belong into .*values",
        ),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, object], error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=expected):
        get_scheduler(name, optimizer(), 0, 100, scheduler_specific_kwargs=options)


def test_other_tables_than_expected_are_an_error_not_a_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        pass

    monkeypatch.setattr(_registry, "SchedulerType", Other)
    with pytest.raises(RuntimeError, match="keeps its schedulers' names in another way.*get_schedule"):
        _registry.register_scheduler("x", lambda: None)
