"""The table of training methods against verifiers: the README's is that of the stored proofs, and a run gives one."""

from pathlib import Path

from recipe_scripts import RECIPES, load

from hf_warmup.data.images import load_images
from hf_warmup.records.files import read_json, write_json
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.study import certified_study
from hf_warmup.studies.runner import run_study


FOLDER = RECIPES / "certified" / "mnist_eps0.1_methods"


def test_readme_quotes_the_stored_proofs() -> None:
    module = load("certified/prove_methods.py")
    proofs, results = (read_json(FOLDER / f"{name}.json") for name in ("proofs", "results"))
    assert module.table(proofs, results) in (RECIPES / "README.md").read_text()
    assert {(model["arm"], model["seed"]) for model in proofs["models"]} == {
        (arm["name"], run["seed"]) for arm in results["arms"] for run in arm["runs"]
    }
    for model in proofs["models"]:
        counts = {row["verifier"]: row["num_verified_of_few"] for row in model["rows"]}
        assert counts["cascade"] == max(counts.values()), "the cascade proves no fewer images than any stage"


def test_a_small_run_gives_a_table_and_goes_on(tmp_path: Path) -> None:
    module = load("certified/prove_methods.py")
    study = CertifiedStudyConfig.model_validate(
        {
            "name": "tiny",
            "reproduces": "nothing",
            "data": {"name": "digits", "mode": "L", "train_examples": 64, "test_examples": 8},
            "model": {"architecture": "cnn_small", "hidden_sizes": [2, 2], "dense_size": 4},
            "eps": "1/1000",
            "training": {"epochs": 1, "ramp_start": 0, "ramp_epochs": 1, "batch_size": 32},
            "pgd": {"steps": 1},
            "arms": [{"name": "ours"}],
            "seeds": [0],
        }
    )
    results = run_study(certified_study(study, load_images(study.data)), tmp_path)
    write_json(tmp_path / "results.json", results)
    proofs = module.prove_all(tmp_path, tmp_path / "proofs.json", folder=None, many=6, few=2)
    assert [row["num_examples"] for row in proofs["models"][0]["rows"]] == [6, 6, 2, 2]
    assert "| ours |" in module.table(proofs, results)
    assert module.prove_all(tmp_path, tmp_path / "proofs.json", folder=None, many=6, few=2) == proofs
