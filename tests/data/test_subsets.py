"""Data sets of several subsets, as many of the Hub's are: one is chosen by its name, and those that exist are told."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_images, load_split
from hf_warmup.data.kinds import ImagesTask
from hf_warmup.data.tasks.sources import load_splits
from hf_warmup.errors import ConfigError


def write(folder: Path, grays: list[int]) -> None:
    """A split in Parquet of pictures in one gray each, as datasets writes them for the Hub."""
    folder.mkdir(parents=True)
    pictures = []
    for gray in grays:
        Image.fromarray(np.full((2, 2), gray, np.uint8)).save(buffer := io.BytesIO(), "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": None})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"image": pictures, "label": [f"g{gray // 10}" for gray in grays]}, features)
    for split in ("train", "test"):
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of a repository with two subsets."""
    place, lines = tmp_path / "repository", ["---", "configs:"]
    for name, grays in (("dark", [10, 20]), ("light", [210, 220, 230])):
        write(place / name, grays)
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in ("train", "test"):
            lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
    (place / "README.md").write_text("\n".join([*lines, "---"]))
    return place


def grays(**data: Any) -> list[int]:
    images = load_split(DataConfig(mode="L", **data), "test")
    return images.images[:, 0, 0, 0].tolist()


def test_a_subset_is_chosen_by_its_name(repository: Path) -> None:
    assert grays(name=str(repository), subset="dark") == [10, 20]
    assert grays(name="someone/grays", folder=str(repository), subset="light") == [210, 220, 230]
    data = load_images(DataConfig(name=str(repository), mode="L", subset="light"))
    assert (len(data.train), data.num_labels, data.names) == (3, 3, ("g21", "g22", "g23"))


def test_subsets_that_exist_are_told(repository: Path) -> None:
    with pytest.raises(ConfigError, match="several subsets; name one of them as subset: dark, light"):
        grays(name=str(repository))
    with pytest.raises(ConfigError, match="no subset 'bright'; it has dark, light"):
        grays(name=str(repository), subset="bright")


def test_a_set_without_subsets(repository: Path, tmp_path: Path) -> None:
    alone = repository / "dark"
    # A copy may hold a subset alone.
    assert grays(name="someone/grays", folder=str(alone), subset="dark") == [10, 20]
    with pytest.raises(ConfigError, match="no subset 'dark', since it has one set alone"):
        grays(name=str(alone), subset="dark")
    (tmp_path / "own" / "a").mkdir(parents=True)
    Image.fromarray(np.full((2, 2), 7, np.uint8)).save(tmp_path / "own" / "a" / "1.png")
    with pytest.raises(ConfigError, match="has no subsets"):
        grays(name=str(tmp_path / "own"), subset="dark")
    assert grays(name="someone/grays", folder=str(tmp_path / "own"), subset="dark") == [7]
    with pytest.raises(ValueError, match="`subset` does not apply to the digits"):
        DataConfig(name="digits", subset="dark")


def test_a_task_takes_the_subset_of_a_copy(repository: Path) -> None:
    def load(**keys: Any) -> Any:
        task = ImagesTask(name="grays", kind="images", splits={"validation": 1}, **keys)  # type: ignore[arg-type]
        return load_splits(task, ["image", "label"])

    assert len(load(folder=str(repository), subset="light")["test"]) == 3
    assert len(load(dataset="someone/grays", folder=str(repository / "dark"), subset="dark")["test"]) == 2
    with pytest.raises(ConfigError, match="task grays: .*several subsets; name one of them as subset: dark, light"):
        load(folder=str(repository))


def test_records_without_a_subset_stay_what_they_are() -> None:
    assert "subset" not in DataConfig(name="someone/grays").model_dump()
    assert DataConfig(name="someone/grays", subset="dark").model_dump()["subset"] == "dark"
