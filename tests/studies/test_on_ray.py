"""Runs on a Ray cluster: the same results as here, though a node is lost and the storing process is killed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_certification import STUDY as CERTIFIED
from test_own_trainer import study_of as own_study

from hf_warmup.cli.train import _make_study
from hf_warmup.cli.workers import Workers, engage, parse_workers
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import read_json
from hf_warmup.records.provenance import versions
from hf_warmup.studies import on_ray
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.comparison.config import StudyConfig, load_study
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.folder import cost_path
from hf_warmup.studies.progress import make_console, show_study
from hf_warmup.studies.runner import claim_study, run_study
from hf_warmup.yaml_config import parse


def test_who_makes_the_cells_is_said_once() -> None:
    assert parse_workers(None, "auto", 0.5) == Workers(ray="auto", gpus_per_run=0.5)
    assert parse_workers("3", None, None) == Workers(jobs=3)
    for given, expected in (
        (("2", "auto", None), "--ray makes the cells elsewhere and --jobs here"),
        ((None, None, 1.0), "--gpus-per-run goes with --ray"),
        ((None, "auto", -1.0), "--gpus-per-run must not be negative, got -1.0"),
    ):
        with pytest.raises(ConfigError, match=expected):
            parse_workers(*given)


def test_without_ray_its_name_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r'--ray needs Ray, .*pip install "hf-warmup\[ray\]"'):
        engage(Workers(ray="auto"), lambda: None, tmp_path, threads=1)


def test_a_failed_run_comes_back_with_its_words_and_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(cell: str, folder: Path) -> Iterator[Any]:
        (folder / "logs").mkdir()
        (folder / "logs" / f"{cell}.log").write_text("out of luck")
        yield {"kind": "failed", "reason": "out of luck", "lines": ["out of luck"]}

    monkeypatch.setattr(on_ray, "_BATCH", 0.0)
    monkeypatch.setattr(on_ray, "_study_of", lambda _: SimpleNamespace(run=run))
    *_, (records, files, _) = on_ray._make_run(b"", "one", versions())
    assert [record["kind"] for record in records] == ["failed"]
    assert files == {"logs/one.log": b"out of luck"}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([{"CPU": 4.0, "GPU": 1.0}], ""),
        ([{"CPU": 1.0}, {"CPU": 2.0, "GPU": 0.5}], ""),
        ([{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}], "nodes alive: 2; the most of one: 8 CPU, 1 GPU"),
        ([], "has 2 CPU and 0.5 GPU for a run (nodes alive: 0; the most of one: 0 CPU, 0 GPU)"),
    ],
)
def test_what_no_node_has_is_told(nodes: list[dict[str, float]], expected: str) -> None:
    found = on_ray.unmet({"CPU": 2.0, "GPU": 0.5}, nodes)
    assert expected in found
    assert bool(found) == bool(expected)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes of one each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield made
    __import__("ray").shutdown()
    made.shutdown()


def small(path: Path) -> StudyConfig:
    """Six cells of 200 updates."""
    overrides = ("threads=1", "training.num_training_steps=200", "learning_rates=[0.01]")
    return load_study(path, overrides=overrides)


@pytest.mark.slow
# Ray leaves files open behind it.
@pytest.mark.filterwarnings("ignore")
def test_a_lost_node_and_a_killed_start_change_nothing(small_study: Path, tmp_path: Path, cluster: Any) -> None:
    # One alone is to be lost, though records of both nodes come at once.
    doomed = [cluster.add_node(num_cpus=1) for _ in range(2)][:1]
    cluster.wait_for_nodes()
    study = small(small_study)
    make = partial(comparison_study, study)
    whole = run_study(make(), tmp_path / "here")
    seen: list[tuple[str, str]] = []
    out = tmp_path / "there"

    def lose_a_node(cell: Any, record: Any) -> None:
        seen.append((cell.name, record["kind"]))
        begun = {name for name, kind in seen if kind == "step"}
        if len(begun) == 2 and doomed:
            cluster.remove_node(doomed.pop(), allow_graceful=False)
        if sum(kind == "result" for _, kind in seen) == 2:
            raise KeyboardInterrupt

    workers = Workers(ray=cluster.address)
    claim_study(make(), out)
    with engage(workers, make, out, threads=1) as helpers, pytest.raises(KeyboardInterrupt):
        helpers.run_missing(make(), out, on_record=lose_a_node)  # type: ignore[union-attr]
    assert [kind for _, kind in seen].count("lost") >= 1
    assert len(list((out / "cells").glob("*.jsonl"))) < 6
    with engage(workers, make, out, threads=1) as helpers:
        assert show_study(make(), out, make_console(), workers=helpers) == whole
    for path in (tmp_path / "here" / "cells").iterdir():
        assert (out / "cells" / path.name).read_bytes() == path.read_bytes()
        cost = read_json(cost_path(out, path.stem))
        assert (cost["parts"][-1]["steps"], "hardware" in cost["parts"][-1]) == (200, True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_certified_training_and_a_persons_own_trainer_come_back_the_same(tmp_path: Path, cluster: Any) -> None:
    cluster.add_node(num_cpus=1)
    (tmp_path / "tiny.yaml").write_text(CERTIFIED)
    overrides = ("arms=[{name: short_warmup}]", "threads=1")
    recipe = parse(CertifiedStudyConfig, tmp_path / "tiny.yaml", overrides=overrides)
    own = own_study(threads=1)
    makers = (partial(_make_study, recipe, None), partial(comparison_study, own))
    for number, make in enumerate(makers):
        here, there = tmp_path / f"here{number}", tmp_path / f"there{number}"
        whole = run_study(make(), here)  # type: ignore[var-annotated]
        with engage(Workers(ray=cluster.address), make, there, threads=1) as helpers:
            assert show_study(make(), there, make_console(), workers=helpers) == whole
        found = [path for name in ("cells", "models") for path in (here / name).rglob("*") if path.is_file()]
        assert len(found) > 1
        for path in found:
            assert (there / path.relative_to(here)).read_bytes() == path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_mistake_on_a_node_is_the_same_one_line(small_study: Path, tmp_path: Path, cluster: Any) -> None:
    cluster.add_node(num_cpus=1)
    study = small(small_study)
    wrong = study.model_copy(update={"tasks": [study.tasks[0].model_copy(update={"train_examples": 5})]})
    with engage(Workers(ray=cluster.address), partial(comparison_study, wrong), tmp_path, threads=1) as helpers:
        with pytest.raises(ConfigError, match="a batch takes 8 examples"):
            helpers.run_missing(comparison_study(study), tmp_path)  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_runs_that_wait_for_a_node_say_so_and_go_on_when_it_joins(
    small_study: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(on_ray, "_PATIENCE", 0.5)
    study = load_study(small_study, overrides=("threads=1", "learning_rates=[0.01]", "seeds=[0]"))
    make = partial(comparison_study, study)
    claim_study(make(), tmp_path)
    tell, joined = on_ray.Cluster._tell_of_need, list[Any]()

    def tell_and_join(self: Any, told: str) -> str:
        need = tell(self, told)
        # The first time it is told, and the second time it is not told again.
        if need and need == told and not joined:
            joined.append(cluster.add_node(num_cpus=1))
        return need

    monkeypatch.setattr(on_ray.Cluster, "_tell_of_need", tell_and_join)
    with engage(Workers(ray=cluster.address), make, tmp_path, threads=1) as helpers:
        helpers.run_missing(make(), tmp_path)  # type: ignore[union-attr]
    assert [record.getMessage()[:42] for record in caplog.records] == ["no node of the Ray cluster has 1 CPU for a"]
    assert list((tmp_path / "cells").glob("*.jsonl"))
