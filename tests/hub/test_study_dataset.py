"""A study as a data set: published, downloaded by somebody else, and its statistics done again from the records."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hub_process import Client
from hub_server import HubServer
from huggingface_hub import DatasetCard

from hf_warmup.cli.compare import compare_and_report
from hf_warmup.cli.train import train_and_report
from hf_warmup.errors import ConfigError
from hf_warmup.hub.study_dataset import study_contents
from hf_warmup.records.files import read_json, write_json
from hf_warmup.report.certification import write_certified_report


# Nobody looks at a picture here.
pytestmark = pytest.mark.usefixtures("no_drawing")
REPOSITORY = "lab/tiny-study"


def again(client: Client, folder: Path, downloaded: Path) -> list[str]:
    """Publish and download a study; the names of what arrived."""
    assert client("publish", folder=str(folder), repo_id=REPOSITORY).error is None
    names: list[str] = client("download", repo_id=REPOSITORY, folder=str(downloaded), repo_type="dataset").value
    assert "Nothing to do" in client("publish", folder=str(folder), repo_id=REPOSITORY).printed
    return [name for name in names if not name.startswith(".")]


def test_comparison_is_checked_from_its_records(
    hub: HubServer, client: Client, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, downloaded = tmp_path / "study", tmp_path / "downloaded"
    compare_and_report(small_study, ("learning_rates=[0.01]",), out=folder, num_seeds=1, shard=(1, 1))
    names = again(client, folder, downloaded)
    assert hub.count("POST", "/commit/") == 1
    assert {Path(name).suffix for name in names} == {".json", ".jsonl", ".md", ".html", ".png", ".yaml"}
    assert len([name for name in names if name.endswith(".jsonl")]) == 3
    expected = (downloaded / "results.json").read_bytes()
    for name in ("results.json", "report.md", "report.html"):
        (downloaded / name).unlink()
    capsys.readouterr()
    with pytest.raises(ConfigError, match=r"holds a study with other settings \(learning_rates\)"):
        compare_and_report(
            downloaded / "study.yaml", ("learning_rates=[0.02]",), out=downloaded, num_seeds=None, shard=(1, 1)
        )
    compare_and_report(downloaded / "study.yaml", (), out=downloaded, num_seeds=None, shard=(1, 1))
    assert "3 of them done already" in " ".join(capsys.readouterr().out.split())
    assert (downloaded / "results.json").read_bytes() == expected
    assert (downloaded / "report.md").is_file()


def test_certified_study_is_checked_from_its_records(
    hub: HubServer, client: Client, copied: Callable[[int], Path], tmp_path: Path
) -> None:
    folder, downloaded = copied(0), tmp_path / "downloaded"
    write_certified_report(read_json(folder / "results.json"), folder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "optimizer.bin").write_bytes(b"\x80\x04.")
    names = again(client, folder, downloaded)
    assert (folder / "models").is_dir()
    assert sorted({name.partition("/")[0] for name in names}) == sorted(
        ["README.md", "cells", "plots", "report.md", "results.json", "study.yaml", "timings"]
    )
    assert not [name for name in names if name.endswith((".bin", ".safetensors", ".svg"))]
    expected = (downloaded / "results.json").read_bytes()
    (downloaded / "results.json").unlink()
    train_and_report(downloaded / "study.yaml", (), out=downloaded, num_seeds=None)
    assert (downloaded / "results.json").read_bytes() == expected
    card = DatasetCard.load(downloaded / "README.md")
    assert card.data.pretty_name == "tiny"
    assert "hf-warmup train study/study.yaml --out study" in card.text


def _unfinished(folder: Path) -> None:
    (folder / "results.json").unlink()


def _going_on(folder: Path) -> None:
    (folder / "cells" / "short_warmup--2.jsonl.partial").touch()


def _lost_records(folder: Path) -> None:
    (folder / "cells" / "short_warmup--1.jsonl").unlink()


def _linked_records(folder: Path) -> None:
    shutil.move(folder / "cells", folder.parent / "elsewhere")
    (folder / "cells").symlink_to(folder.parent / "elsewhere")


def _no_results(folder: Path) -> None:
    (folder / "results.json").write_text("[]")


def _other_version(folder: Path) -> None:
    results = read_json(folder / "results.json")
    results["config"]["colour"] = "blue"
    write_json(folder / "results.json", results)


def _lacking_lengths(folder: Path) -> None:
    results = read_json(folder / "results.json")
    del results["updates_per_epoch"]
    write_json(folder / "results.json", results)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_unfinished, "not finished. Run the command"),
        (_going_on, "runs are not finished (short_warmup--2.jsonl.partial)"),
        (_lost_records, "cells/short_warmup--1.jsonl are missing"),
        (_linked_records, "is a symbolic link"),
        (_no_results, "does not hold results"),
        (_lacking_lengths, "lacks what this version writes ('updates_per_epoch')"),
        (_other_version, "not one of this version (colour"),
    ],
)
def test_unfit_studies(spoil: Callable[[Path], None], message: str, copied: Callable[[int], Path]) -> None:
    folder = copied(0)
    assert "cells/short_warmup--1.jsonl" in study_contents(folder)
    spoil(folder)
    with pytest.raises(ConfigError) as refused:
        study_contents(folder)
    assert message in str(refused.value)


def test_study_in_the_repository_is_the_one_that_ran(made: tuple[Path, Path]) -> None:
    contents = study_contents(made[0])
    assert isinstance(contents["study.yaml"], bytes)
    assert yaml.safe_load(contents["study.yaml"]) == read_json(made[0] / "results.json")["config"]
