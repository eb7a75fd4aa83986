"""What each verifier proves of models by each training method: `python recipes/certified/prove_methods.py STUDY`.

STUDY is the folder of a finished `hf-warmup train recipes/certified/mnist_eps0.1_methods.yaml`, with its models. The
first `--images` of its test images are proven by IBP and CROWN-IBP, and the first `--few` of these by alpha-CROWN and
the cascade, which take a hundred times as long. Writes `mnist_eps0.1_methods/proofs.json` beside this file, model by
model; started again it goes on. Times are of the processor, so that others on the machine do not count; set
OMP_NUM_THREADS=1 to have those of one core. `--table` prints the table of what is stored; `--folder` names a copy of
the data set.
"""

import argparse
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageClassification

from hf_warmup import certify
from hf_warmup.data.images import Images, load_images
from hf_warmup.records.files import read_json, write_json
from hf_warmup.records.provenance import commit, hardware, versions
from hf_warmup.studies.certification.config import CertifiedStudyConfig


HERE = Path(__file__).parent
PROOFS = HERE / "mnist_eps0.1_methods" / "proofs.json"
# Each verifier, and whether it gets few images.
VERIFIERS = {"ibp": False, "crown-ibp": False, "alpha-crown": True, "cascade": True}


def proven(model: nn.Module, images: Images, eps: str, *, many: int, few: int) -> list[dict[str, Any]]:
    """Images that each verifier proves, and its processor time an image, in seconds."""
    rows = []
    for method, slow in VERIFIERS.items():
        batch = images.__getitems__(range(few if slow else many))
        start = time.process_time()
        found = certify(model, batch["pixel_values"], batch["labels"], eps=eps, method=method)
        seconds = time.process_time() - start
        rows.append(
            {
                "verifier": method,
                "num_examples": len(batch["labels"]),
                "num_verified": int(found.verified.sum()),
                # Of these, what IBP and CROWN-IBP are to be compared with on few images.
                "num_verified_of_few": int(found.verified[:few].sum()),
                "num_right": int((found.predictions == batch["labels"]).sum()),
                "seconds_per_image": seconds / len(batch["labels"]),
                "stopped": found.stopped,
            }
        )
    return rows


def table(proofs: dict[str, Any], results: dict[str, Any]) -> str:
    """A line for each method of training: percent, means over seeds, and milliseconds of processor time an image."""
    models: dict[str, list[dict[str, Any]]] = {}
    for model in proofs["models"]:
        models.setdefault(model["arm"], []).append(model)
    arms = {arm["name"]: arm for arm in results["arms"]}
    few = proofs["few"]
    header = ["trained by", "clean", "PGD", *(f"{name}{f' (of {few})' * slow}" for name, slow in VERIFIERS.items())]
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    for name, runs in models.items():
        cells = [f"{100 * arms[name][f'{key}_accuracy']['mean']:.1f}" for key in ("clean", "pgd")]
        for verifier in VERIFIERS:
            rows = [row for run in runs for row in run["rows"] if row["verifier"] == verifier]
            share = fmean(row["num_verified"] / row["num_examples"] for row in rows)
            cells.append(f"{100 * share:.1f} ({1000 * fmean(row['seconds_per_image'] for row in rows):.0f} ms)")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def prove_all(study: Path, path: Path, *, folder: str | None, many: int, few: int) -> dict[str, Any]:
    """What is stored at `path`, after the models that it lacks have been proven."""
    results = read_json(study / "results.json")
    config = CertifiedStudyConfig.model_validate(results["config"])
    data = load_images(config.data.model_copy(update={"folder": folder}))
    about = {"eps": config.eps, "many": many, "few": few, "versions": versions(), "threads": torch.get_num_threads()}
    proofs = read_json(path) if path.exists() else {**about, "models": []}
    done = {(model["arm"], model["seed"]) for model in proofs["models"]}
    for seed in config.seeds:
        for arm in config.arms:
            if (arm.name, seed) in done:
                continue
            model = AutoModelForImageClassification.from_pretrained(study / "models" / f"{arm.name}--{seed}").eval()
            rows = proven(model, data.test, config.eps, many=many, few=few)
            made = {"commit": commit(), "hardware": hardware()}
            proofs["models"].append({"arm": arm.name, "seed": seed, **made, "rows": rows})
            write_json(path, proofs)
            print(arm.name, seed, [row["num_verified"] for row in rows], flush=True)
    return proofs


def main() -> None:
    """Prove what is missing, store and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", help="the study's folder; not needed with --table")
    parser.add_argument("--folder", help="a copy of the data set; the Hub's by default")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--few", type=int, default=50)
    parser.add_argument("--out", type=Path, default=PROOFS)
    parser.add_argument("--table", action="store_true", help="print the table of what is stored")
    options = parser.parse_args()
    if not options.table:
        if options.study is None:
            parser.error("the folder of a study is wanted")
        prove_all(options.study, options.out, folder=options.folder, many=options.images, few=options.few)
    print(table(read_json(options.out), read_json(options.out.parent / "results.json")))


if __name__ == "__main__":
    main()
