"""The method of certified training as a recipe states it: for all arms in `training`, for one in the arm."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from hf_warmup.certified.objectives import CcIbp, CrownIbp, ExpIbp, Ibp, Method, MtlIbp, Sabr, TrainingAttack
from hf_warmup.yaml_config import Strict


MethodName = Literal["ibp", "crown_ibp", "sabr", "mtl_ibp", "cc_ibp", "exp_ibp"]
METHODS: dict[MethodName, Callable[..., Method]] = {
    "ibp": Ibp,
    "crown_ibp": CrownIbp,
    "sabr": Sabr,
    "mtl_ibp": MtlIbp,
    "cc_ibp": CcIbp,
    "exp_ibp": ExpIbp,
}
_ATTACK = ("attack_steps", "attack_restarts", "attack_scale")
_EXPRESSIVE = ("ibp_weight", *_ATTACK)
# The keys that a method takes; the first of those that attack must be given.
KEYS: dict[MethodName, tuple[str, ...]] = {
    "ibp": (),
    "crown_ibp": ("linear_weight",),
    "sabr": ("box_share", "relu_shrink", "attack_steps", "attack_restarts"),
    "mtl_ibp": _EXPRESSIVE,
    "cc_ibp": _EXPRESSIVE,
    "exp_ibp": _EXPRESSIVE,
}


class MethodKeys(Strict):
    """A method and its keys; those of an arm go before those of `training`.

    crown_ibp: `linear_weight` of linear bounds at the full radius, 0. sabr: `box_share`, the small box's share of the
    whole one (lambda), and `relu_shrink`, 1. mtl_ibp, cc_ibp, exp_ibp: `ibp_weight` (alpha), and `attack_scale`, the
    attack's radius over the one trained for, 1. All that attack: `attack_steps`, 8, and `attack_restarts`, 1.
    """

    method: MethodName | None = None
    linear_weight: float | None = Field(default=None, ge=0, le=1)
    box_share: float | None = Field(default=None, ge=0, le=1)
    relu_shrink: float | None = Field(default=None, gt=0, le=1)
    ibp_weight: float | None = Field(default=None, ge=0, le=1)
    attack_scale: float | None = Field(default=None, gt=0)
    attack_steps: int | None = Field(default=None, ge=1)
    attack_restarts: int | None = Field(default=None, ge=1)

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that are not used: studies from before they were offered stay what they are."""
        found: dict[str, Any] = handler(self)
        new = (*MethodKeys.model_fields, "swa_start", "swa_every")
        return {key: value for key, value in found.items() if value is not None or key not in new}


def given(keys: MethodKeys) -> dict[str, Any]:
    """The keys of methods that are given, without the method."""
    found = {name: getattr(keys, name) for name in MethodKeys.model_fields if name != "method"}
    return {name: value for name, value in found.items() if value is not None}


def method_name(training: MethodKeys, arm: MethodKeys) -> MethodName:
    """An arm's method."""
    return arm.method or training.method or "ibp"


def check_methods(training: MethodKeys, arms: Mapping[str, MethodKeys]) -> None:
    """Raise ValueError for a key that nobody takes, and for one that is missing."""
    taken: set[str] = set()
    for name, arm in arms.items():
        method = method_name(training, arm)
        for key in given(arm).keys() - set(KEYS[method]):
            raise ValueError(f"arm {name!r} is trained by {method}, which takes no `{key}`; remove it")
        needed = [key for key in KEYS[method][:1] if key in ("box_share", "ibp_weight")]
        if needed and needed[0] not in given(training) | given(arm):
            raise ValueError(f"arm {name!r} is trained by {method}, which needs `{needed[0]}`, in [0, 1]")
        taken |= set(KEYS[method])
    for key in given(training).keys() - taken:
        methods = ", ".join(method for method, keys in KEYS.items() if key in keys)
        raise ValueError(f"training.{key} is taken by {methods}, by which no arm is trained; remove it")


def make_method(training: MethodKeys, arm: MethodKeys) -> Method:
    """The method of an arm whose keys are checked."""
    name = method_name(training, arm)
    keys = {key: value for key, value in (given(training) | given(arm)).items() if key in KEYS[name]}
    attack = {key.removeprefix("attack_"): keys.pop(key) for key in _ATTACK if key in keys}
    return METHODS[name](**keys, **({"attack": TrainingAttack(**attack)} if attack else {}))
