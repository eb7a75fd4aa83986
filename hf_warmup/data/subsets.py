"""Data sets that `datasets` loads by a Hub name or from a repository's copy, and which of their subsets is meant."""

from typing import Any

import datasets

from hf_warmup.errors import ConfigError, first_line


# So many names of subsets are told; some data sets have hundreds.
_TOLD = 30


def load_named(place: str, subset: str | None, *, is_copy: bool = False, **options: Any) -> Any:
    """What `datasets.load_dataset` gives of a data set.

    Args:
        place: Hub name or folder.
        subset: which configuration of it; None for its only or its default one.
        is_copy: whether the place may hold that subset alone, without its name.
        options: of `load_dataset`, such as `split`.

    Raises:
        ConfigError: if the data set cannot be had, or a subset must be chosen among those that are named.
    """
    try:
        if is_copy and subset is not None and datasets.get_dataset_config_names(place) == ["default"]:
            subset = None
        return datasets.load_dataset(place, subset, **options)
    except Exception as error:  # datasets raises many kinds, all of which mean: cannot be had
        # A choice of subset that it cannot follow is one of values; others need no second question to the Hub.
        said = _wrong_subset(place, subset) if isinstance(error, ValueError) else None
        raise ConfigError(said or first_line(error)) from None


def _wrong_subset(place: str, subset: str | None) -> str | None:
    """What is wrong with the choice of a subset; None if nothing is."""
    try:
        known = datasets.get_dataset_config_names(place)
        missing = subset is None and datasets.get_dataset_default_config_name(place) is None
    except Exception:  # as above: then the place itself is what is wrong
        return None
    if subset in known or (subset is None and not missing):
        return None
    if known == ["default"]:
        return f"it has no subset {subset!r}, since it has one set alone; leave subset out"
    some = ", ".join(known[:_TOLD]) + (f" and {len(known) - _TOLD} more" if len(known) > _TOLD else "")
    if subset is None:
        return f"it has several subsets; name one of them as subset: {some}"
    return f"it has no subset {subset!r}; it has {some}"
