"""Folders, tables and stored data sets of pictures: the same images from each, and one line for each mistake."""

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import Images, load_images, load_split
from hf_warmup.errors import ConfigError


ANIMALS = ["ant", "bee", "cat"]


def draw(path: Path, gray: int, size: tuple[int, int] = (3, 2)) -> Path:
    """A picture in one gray, `size` wide and high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], gray, np.uint8)).save(path)
    return path


def load(place: Path, split: str = "test", **options: Any) -> Images:
    return load_split(DataConfig(name=str(place), mode="L", test_split=split, **options), "test")


def seen(images: Images) -> dict[int, int]:
    """The label of each picture, by its gray."""
    return dict(zip(images.images[:, 0, 0, 0].tolist(), images.labels.tolist(), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of each animal, and what else lies in such folders."""
    place = tmp_path / "animals"
    for label, name in enumerate(ANIMALS):
        for number in range(2):
            draw(place / name / f"{number}.png", 10 * label + number)
    (place / "README.txt").write_text("animals")
    (place / "ant" / ".hidden.png").write_text("no picture")
    return place


EXPECTED = {0: 0, 1: 0, 10: 1, 11: 1, 20: 2, 21: 2}


def rows(folder: Path) -> list[tuple[str, str]]:
    return [(f"{name}/{number}.png", name) for name in ANIMALS for number in range(2)]


def as_csv(folder: Path) -> tuple[Path, dict[str, str]]:
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("species", "where", "note"), *((name, path, "x") for path, name in rows(folder))])
    return folder / "list.csv", {"label_column": "species"}


def as_json_lines(folder: Path) -> tuple[Path, dict[str, str]]:
    lines = [json.dumps({"picture": path, "target": name}) for path, name in rows(folder)]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return folder / "list.jsonl", {}


def as_parquet_of_bytes(folder: Path) -> tuple[Path, dict[str, str]]:
    columns = {
        "thumb": [(folder / path).read_bytes() for path, _ in rows(folder)],
        "label": [n for _, n in rows(folder)],
    }
    datasets.Dataset.from_dict(columns).to_parquet(folder / "list.parquet")
    return folder / "list.parquet", {}


def stored(folder: Path) -> datasets.Dataset:
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=ANIMALS)})
    columns = {"img": [str(folder / path) for path, _ in rows(folder)], "label": [name for _, name in rows(folder)]}
    return datasets.Dataset.from_dict(columns, features=features)


def as_stored(folder: Path) -> tuple[Path, dict[str, str]]:
    stored(folder).save_to_disk(folder / "stored")
    return folder / "stored", {}


def as_parquet_of_images(folder: Path) -> tuple[Path, dict[str, str]]:
    stored(folder).to_parquet(folder / "images.parquet")
    return folder / "images.parquet", {"image_column": "img"}


def as_metadata(folder: Path) -> tuple[Path, dict[str, str]]:
    lines = ["file_name,kind", *(f"{path},{name}" for path, name in rows(folder))]
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder, {}


@pytest.mark.parametrize(
    "make", [as_csv, as_json_lines, as_parquet_of_bytes, as_stored, as_parquet_of_images, as_metadata]
)
def test_all_forms_hold_the_same(folder: Path, make: Any) -> None:
    place, options = make(folder)
    found = load(place, **options)
    assert (found.images.shape, found.split) == ((6, 1, 2, 3), "all")
    assert seen(found) == EXPECTED
    assert found.classes is not None
    assert found.classes.names == tuple(ANIMALS)
    assert torch.equal(found.images, load(folder).images)


def test_a_folder_of_classes_is_drawn_from_all_of_them(folder: Path) -> None:
    assert seen(load(folder)) == seen(load(folder, "all")) == seen(load(folder, "train")) == EXPECTED
    for number in range(2, 40):
        for label, name in enumerate(ANIMALS):
            draw(folder / name / f"{number}.png", 10 * label)
    assert set(load(folder, test_examples=12).labels.tolist()) == {0, 1, 2}


def test_splits_are_folders_or_tables(folder: Path, tmp_path: Path) -> None:
    draw(tmp_path / "divided" / "train" / "bee" / "x.png", 99)
    draw(tmp_path / "divided" / "val" / "ant" / "x.png", 98)
    folder.rename(tmp_path / "divided" / "test")
    place = tmp_path / "divided"
    assert seen(load(place)) == EXPECTED
    # One class of three is there, and has its number all the same.
    assert seen(load(place, "train")) == {99: 1}
    assert seen(load(place, "validation")) == seen(load(place, "val")) == {98: 0}
    assert load(place, "val").split == "val"
    with pytest.raises(ConfigError, match="has no split 'extra'; it has test, train, validation"):
        load(place, "extra")
    whole = load_images(DataConfig(name=str(place), mode="L"))
    assert (whole.num_labels, whole.names, len(whole.train)) == (3, tuple(ANIMALS), 1)
    (place / "train.csv").write_text("image,label\ntrain/bee/x.png,bee\n")
    (place / "test.csv").write_text("image,label\ntest/cat/0.png,cat\n")
    assert seen(load(place)) == {20: 1}, "bee and cat are all that the tables know"


def test_a_class_may_be_called_as_a_split_is(folder: Path) -> None:
    draw(folder / "train" / "loco.png", 30)
    found = load(folder)
    assert (seen(found), found.split) == ({**EXPECTED, 30: 3}, "all")


def test_a_repositorys_page_holds_no_data(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "clone" / "data").mkdir(parents=True)
    stored(folder).to_parquet(tmp_path / "clone" / "data" / "test-00000-of-00001.parquet")
    draw(tmp_path / "clone" / "assets" / "logo.png", 7)
    assert seen(load(tmp_path / "clone")) == EXPECTED


def test_numbers_as_names_go_by_their_size(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        draw(tmp_path / "numbers" / str(number) / "x.png", number)
    found = load(tmp_path / "numbers")
    assert seen(found) == {0: 0, 2: 1, 10: 2}
    assert found.classes is not None
    assert found.classes.names == ("0", "2", "10")


def test_training_on_what_judges_is_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match="is not divided: put what is trained on and what judges into train and test"
    ):
        load_images(DataConfig(name=str(folder), mode="L"))


def test_colours_are_as_the_model_takes_them(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (200, 0, 0, 255)).save(draw(tmp_path / "f" / "a" / "x.png", 0))
    Image.new("P", (2, 2)).save(tmp_path / "f" / "a" / "y.png")
    colours = load_split(DataConfig(name=str(tmp_path / "f"), mode="RGB"), "test")
    assert colours.images[:, :, 0, 0].tolist() == [[200, 0, 0], [0, 0, 0]]
    assert load(tmp_path / "f").images.shape == (2, 1, 2, 2)


def broken(folder: Path) -> None:
    (folder / "bee" / "1.png").write_bytes((folder / "bee" / "1.png").read_bytes()[:40])


def deep(folder: Path) -> None:
    draw(folder / "ant" / "more" / "x.png", 1)


def loose(folder: Path) -> None:
    draw(folder / "x.png", 1)


def sixteen_bits(folder: Path) -> None:
    Image.fromarray(np.full((2, 3), 60000, np.uint16)).save(folder / "bee" / "1.png")


def both(folder: Path) -> None:
    draw(folder / "test" / "ant" / "x.png", 1)


def sizes(folder: Path) -> None:
    draw(folder / "cat" / "2.png", 1, (3, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken, r"bee/1.png cannot be read as a picture"),
        (sixteen_bits, r"bee/1.png has more than 8 bits a pixel"),
        (deep, "ant/more holds pictures and lies too deep"),
        (loose, "holds pictures without a class, such as x.png"),
        (both, "test looks like a split and ant like a class"),
        (sizes, "must be of one size, found 3 x 2 and 3 x 3"),
    ],
)
def test_wrong_folders(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(ConfigError, match=message):
        load(folder)


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is empty; expected a folder of pictures for each class"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ConfigError, match=r"no pictures \(such as .png or .jpg\) and no table .*it holds notes.txt"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="a file must end in one of .csv, .*got notes.bin"):
        load((tmp_path / "notes.txt").rename(tmp_path / "notes.bin"))
    (tmp_path / "none.csv").touch()
    with pytest.raises(ConfigError, match=r"none.csv cannot be read \(No columns to parse from file\)"):
        load(tmp_path / "none.csv")


CSV = "image,{columns}\nant/0.png,{first}\nant/1.png,{second}\n"


@pytest.mark.parametrize(
    ("columns", "first", "second", "options", "message"),
    [
        ("label", "0.5", "1", {}, r"column label: labels must be words or whole numbers, got"),
        ("label", "0", "", {}, "some labels are empty, such as that of row 1"),
        ("label", "", "", {}, "labels are empty"),
        ("label", "-1", "0", {}, "labels must be 0 or more, got -1; -1 stands for hidden labels"),
        ("label", "-7", "0", {}, r"labels must be 0 or more, got -7\."),
        (
            "a,b",
            "1,2",
            "1,2",
            {},
            r"several columns may be labels \(a, b\); it has image, a, b. Name one: --label-col",
        ),
        ("a,b", "1,2", "1,2", {"label_column": "c"}, "label_column 'c' is not there; it has image, a, b"),
        ("a,b", "1,2", "1,2", {"image_column": "c"}, "image_column 'c' is not there; it has image, a, b"),
        ("a,b", "1,2", "1,2", {"image_column": "a"}, "column a holds no pictures; columns that do: image"),
        ("a", "x.png", "y.png", {}, r"several columns hold pictures \(image, a\)"),
        ("label", "0", "1\nant/9.png,1", {}, r"ant/9.png cannot be read as a picture"),
        ("label", "0", "1\n,1", {}, "there is no picture in row 2"),
    ],
)
def test_wrong_tables(
    folder: Path, columns: str, first: str, second: str, options: dict[str, str], message: str
) -> None:
    table = folder / "table.csv"
    table.write_text(CSV.format(columns=columns, first=first, second=second))
    with pytest.raises(ConfigError, match=message):
        load(table, **options)


def test_columns_are_recorded_only_where_they_are_named() -> None:
    before = DataConfig(name="digits").model_dump(mode="json")
    assert before.keys().isdisjoint({"image_column", "label_column", "match_classes"})
    assert DataConfig(name="x", label_column="kind").model_dump(mode="json")["label_column"] == "kind"
    with pytest.raises(ValueError, match="columns do not apply to the digits"):
        DataConfig(name="digits", label_column="kind")
