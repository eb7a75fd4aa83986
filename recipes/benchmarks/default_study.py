"""How often does `hf-warmup compare` without arguments decide? The default study again and again, on other seeds.

    python recipes/benchmarks/default_study.py --out FOLDER  # a quarter of an hour on two idle CPU cores
    python recipes/benchmarks/default_study.py --out FOLDER --groups 3000

Each group is the whole study with its looks, on seeds that follow its first one; groups share no seed with each other
nor with the default. Started several times with one folder, the starts share the runs.
"""

import argparse
import json
from pathlib import Path

from hf_warmup.cli.arguments import DEFAULTS
from hf_warmup.cli.quiet import quiet_libraries
from hf_warmup.records.provenance import commit, hardware
from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.comparison.config import load_study
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.runner import run_study


# What only the pictures need does not change a score.
WITHOUT_PICTURES = ("training.update_statistics_every=0", "training.evaluate_every=1000")


def run_group(first_seed: int, folder: Path) -> dict[str, object]:
    """Verdicts of the default study on seeds from `first_seed` on."""
    study = load_study(DEFAULTS / "digits_vit.yaml", overrides=(f"seeds=[{first_seed}]", *WITHOUT_PICTURES))
    results = add_verdicts(run_study(comparison_study(study), folder / str(first_seed)) or {})
    [task] = results["tasks"]
    kept = ("verdict", "difference", "t_interval", "n", "look")
    return {
        "first_seed": first_seed,
        "runs": sum(arm["n"] for arm in task["arms"]),
        "arms": {verdict["arm"]: {key: verdict[key] for key in kept} for verdict in task["verdicts"]},
    }


def main() -> None:
    """Run all groups, then print and store what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--groups", type=int, nargs="+", default=list(range(3000, 4000, 100)), metavar="FIRST_SEED")
    arguments = parser.parse_args()
    quiet_libraries()
    groups = [run_group(seed, arguments.out) for seed in arguments.groups]
    decided = {
        arm: {
            word: sum(group["arms"][arm]["verdict"] == word for group in groups)
            for word in ("different", "equivalent")
        }
        for arm in groups[0]["arms"]
    }
    document = {"groups": groups, "decided": decided, "hardware": hardware(), "commit": commit()}
    (arguments.out / "default_study.json").write_text(json.dumps(document, indent=1) + "\n")
    for group in groups:
        print(group["first_seed"], group["runs"], "runs:", {arm: v["verdict"] for arm, v in group["arms"].items()})
    print(f"of {len(groups)} groups: {decided}")


if __name__ == "__main__":
    main()
