"""Classes of a model and of a data set: matched by name, and never in silence where names and numbers differ."""

from typing import Any

import pytest

from hf_warmup.data.classes import Classes, class_map, model_names, sorted_classes
from hf_warmup.errors import ConfigError


MODEL = ("cat", "Polar bear", "dog")


@pytest.mark.parametrize(
    ("classes", "names", "how", "expected"),
    [
        # Names that were only sorted take the model's numbers, all or some of them.
        (sorted_classes(["dog", "cat", "polar_bear"]), MODEL, None, [0, 2, 1]),
        (sorted_classes(["dog"]), MODEL, None, [2]),
        (Classes(2, ("dog", "cat")), MODEL, None, [2, 0]),
        (Classes(3, MODEL), MODEL, None, [0, 1, 2]),
        (Classes(3, ("dog", "cat", "polar bear")), MODEL, "name", [2, 0, 1]),
        (Classes(3, ("dog", "cat", "polar bear")), MODEL, "number", [0, 1, 2]),
        # Where one side has no names, numbers are meant.
        (Classes(2), MODEL, None, [0, 1]),
        (Classes(2, ("x", "y")), None, None, [0, 1]),
        (sorted_classes(["x", "y", "z"]), None, None, [0, 1, 2]),
        (sorted_classes(["2", "0"]), None, None, [0, 2]),
        (sorted_classes(["2", "0"]), MODEL, "number", [0, 2]),
        (sorted_classes(["LABEL_2", "LABEL_0"]), None, None, [0, 2]),
        # Two classes of one name are told apart by their place alone.
        (Classes(3, ("crane", "x", "crane")), ("crane", "x", "crane"), None, [0, 1, 2]),
        (Classes(1, ("Crane",)), ("crane", "x", "Crane"), None, [2]),
    ],
)
def test_which_class_is_which(classes: Classes, names: Any, how: Any, expected: list[int]) -> None:
    assert class_map(classes, names, 3, how, "data") == expected


@pytest.mark.parametrize(
    ("classes", "names", "how", "message"),
    [
        (
            Classes(3, ("dog", "cat", "polar bear")),
            MODEL,
            None,
            "another order: 0 is 'dog' there and 'cat' in the mod",
        ),
        (sorted_classes(["dog", "emu"]), MODEL, None, "does not know: emu; the model's are cat, Polar bear, dog"),
        (sorted_classes(["crane"]), ("crane", "x", "crane"), None, "does not know: crane"),
        (sorted_classes(["cat", "CAT"]), MODEL, None, "are one to the model"),
        (sorted_classes(["x", "y"]), None, None, "has 2 classes .x, y., the model has 3 without names"),
        (sorted_classes(["1", "2", "3"]), None, None, "has labels up to 3, and the model has 3 logits"),
        (sorted_classes(["1", "01"]), None, None, "are one to the model"),
        (Classes(4, tuple("wxyz")), None, None, "has 4 classes"),
        (Classes(3), MODEL, "name", "the classes of data have no names"),
        (Classes(3, MODEL), None, "name", "the model's classes have no names"),
    ],
)
def test_what_is_not_clear_is_an_error(classes: Classes, names: Any, how: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_map(classes, names, 3, how, "data")


def test_default_names_of_transformers_are_none() -> None:
    assert model_names({0: "LABEL_0", 1: "LABEL_1"}) is None
    assert model_names({"0": "cat", "1": "dog"}) == ("cat", "dog")
    assert model_names(None) is None
