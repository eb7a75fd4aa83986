"""The only file that touches transformers' tables.

transformers resolves a scheduler's name through the enum `SchedulerType` and the dictionary
`TYPE_TO_SCHEDULER_FUNCTION`, and offers no way to extend either. A name must be a real member, or it will not
survive `TrainingArguments`, the choices of the command line, JSON and pickle; so members are added as the enum
module adds them itself. Each new member pickles as a call of `_load_member`, so that a process that has never
heard of this package imports it, and with it the name. Tested on transformers 4.57, 5.0 and 5.23.
"""

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers
from torch.optim.lr_scheduler import LRScheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType

from hf_warmup._registry import _load_member
from hf_warmup.lr_scheduler.loss_adaptive import get_loss_adaptive_schedule
from hf_warmup.lr_scheduler.names import check_known
from hf_warmup.lr_scheduler.scheduler import get_schedule
from hf_warmup.schedules.tables import DECAYS, LOSS_ADAPTIVE_WARMUPS, WARMUPS


logger = logging.getLogger(__name__)

_OWNED: dict[str, Callable[..., Any]] = {}


def register_scheduler(name: str, function: Callable[..., Any], *, exist_ok: bool = False) -> None:
    """Make `name` valid wherever transformers takes a scheduler's name.

    Args:
        name: for `TrainingArguments(lr_scheduler_type=...)`, `get_scheduler`, command line flags.
        function: called as `function(optimizer, num_warmup_steps=, num_training_steps=, **lr_scheduler_kwargs)`,
            returning a torch learning rate scheduler.
        exist_ok: replace a function registered here before under the same name.

    Raises:
        ValueError: if the name is taken: by transformers or another package always, by ourselves unless `exist_ok`.
        RuntimeError: if this version of transformers has no such tables.

    Example:
        >>> import torch
        >>> register_scheduler("my_constant", lambda optimizer, **_: torch.optim.lr_scheduler.ConstantLR(optimizer))
        >>> "my_constant" in registered_schedulers()
        True
    """
    _check_tables()
    if not name.isidentifier():
        raise ValueError(f"a scheduler's name must be a Python identifier, got {name!r}.")
    if name in SchedulerType._value2member_map_ and name not in _OWNED:
        raise ValueError(f"transformers already has a scheduler named {name!r}, not ours to replace; choose another.")
    if name in _OWNED and not exist_ok:
        raise ValueError(f"{name!r} is registered already; pass exist_ok=True to replace its function.")
    member = SchedulerType._value2member_map_.get(name) or _add_member(name)
    TYPE_TO_SCHEDULER_FUNCTION[member] = function
    _OWNED[name] = function


def registered_schedulers() -> tuple[str, ...]:
    """The names that this package has added to transformers, in the order of registration."""
    return tuple(_OWNED)


def _add_member(name: str) -> Any:
    # What EnumType does for a member with a str mixin; its own __setattr__ would refuse.
    member: Any = str.__new__(SchedulerType, name)
    member._name_ = name.upper()
    member._value_ = name
    member.__objclass__ = SchedulerType
    member._sort_order_ = len(SchedulerType._member_names_)
    SchedulerType._member_names_.append(member._name_)
    SchedulerType._member_map_[member._name_] = member
    SchedulerType._value2member_map_[name] = member
    values = getattr(SchedulerType, "_hashable_values_", None)
    if isinstance(values, list):
        values.append(name)
    type.__setattr__(SchedulerType, member._name_, member)
    # On the instance, where pickle looks first: stock members keep their own way.
    member.__reduce_ex__ = functools.partial(_reduce_member, name)
    return member


def _reduce_member(name: str, protocol: int) -> tuple[Callable[[str], Any], tuple[str]]:
    return _load_member, (name,)


def _check_tables() -> None:
    if not all(hasattr(SchedulerType, table) for table in ("_member_names_", "_member_map_", "_value2member_map_")):
        raise RuntimeError(
            f"transformers {transformers.__version__} keeps its schedulers' names in another way than this package "
            "knows. Build the scheduler yourself: Trainer(optimizers=(optimizer, hf_warmup.get_schedule(optimizer, "
            "...)))."
        )


@dataclass(frozen=True)
class _Named:
    """What transformers calls under a name that fixes the warmup, or warmup and decay."""

    registered_name: str
    fixed: dict[str, Any]

    def __call__(
        self,
        optimizer: Any,
        num_warmup_steps: float | None = 0,
        num_training_steps: int | None = None,
        **options: Any,
    ) -> LRScheduler:
        self._check(options)
        if self.fixed["warmup"] not in LOSS_ADAPTIVE_WARMUPS:
            return get_schedule(optimizer, num_warmup_steps, num_training_steps, **self.fixed, **options)
        adaptive = {key: value for key, value in self.fixed.items() if key != "warmup"}
        return get_loss_adaptive_schedule(optimizer, num_warmup_steps, num_training_steps, **adaptive, **options)

    def _check(self, options: dict[str, Any]) -> None:
        """Raise for options that the name states already, and for those that do not exist."""
        for key in self.fixed.keys() & options.keys():
            raise ValueError(
                f"{self.registered_name!r} already fixes the {key} to {self.fixed[key]!r}, got {key}={options[key]!r} "
                f"as well. Name it once: {self.fixed['warmup']!r} takes a decay."
            )
        if self.fixed["warmup"] == "h0_h1_warmup" and "rho" in options:
            raise ValueError(
                f"{self.registered_name!r} has rho = 1, got rho={options['rho']!r}; loss_adaptive_warmup takes any."
            )
        adaptive = self.fixed["warmup"] in LOSS_ADAPTIVE_WARMUPS
        parameters = inspect.signature(get_loss_adaptive_schedule if adaptive else get_schedule).parameters
        known = [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY and name not in self.fixed]
        for key in options:
            try:
                check_known(f"option of {self.registered_name!r}:", key, known)
            except ValueError as error:
                raise TypeError(str(error)) from None

    def __str__(self) -> str:
        # Python puts this in front of "got multiple values for keyword argument 'num_warmup_steps'".
        return (
            f"{self.registered_name!r} (its lengths belong into TrainingArguments or get_scheduler's own arguments, "
            "not into lr_scheduler_kwargs)"
        )


def _own_functions() -> dict[str, Callable[..., Any]]:
    """Every warmup's name, plain and combined with every decay, and its function."""
    fixed_by_name: dict[str, dict[str, Any]] = {}
    for warmups in (WARMUPS, LOSS_ADAPTIVE_WARMUPS):
        fixed_by_name |= {warmup: {"warmup": warmup} for warmup in warmups}
        fixed_by_name |= {
            f"{decay}_with_{warmup}": {"warmup": warmup, "decay": decay} for warmup in warmups for decay in DECAYS
        }
    return {name: _Named(name, fixed) for name, fixed in fixed_by_name.items()}


def _adopt_members() -> None:
    """Know again the members of an earlier load of this module: importlib.reload starts with an empty `_OWNED`."""
    for name, member in SchedulerType._value2member_map_.items():
        reduce = vars(member).get("__reduce_ex__")
        if isinstance(reduce, functools.partial) and reduce.func.__module__ == __name__:
            _OWNED[str(name)] = TYPE_TO_SCHEDULER_FUNCTION[member]


def _register_own() -> None:
    _check_tables()
    _adopt_members()
    for name, function in _own_functions().items():
        if name in SchedulerType._value2member_map_ and name not in _OWNED:
            logger.warning("the scheduler name %r is taken by another package; it keeps it.", name)
        else:
            register_scheduler(name, function, exist_ok=True)


_register_own()
