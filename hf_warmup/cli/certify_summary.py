"""The summary and the table of stages that `hf-warmup certify` prints."""

from hf_warmup.records.files import Record


def summary(model: str, document: Record, attack: Record, verdicts: Record) -> list[str]:
    """What a person reads."""
    import numpy as np

    low, high = (100 * end for end in verdicts["verified_interval"])
    radii = np.array(document["images"]["radius"])
    lines = [
        f"{model} on {document['num_examples']} images of {document['data']['name']}, "
        f"split {document['data']['split']}, eps {document['eps']}:",
        f"  clean accuracy     {100 * document['clean_accuracy']:6.2f} %",
        f"  accuracy under PGD {100 * attack['pgd_accuracy']:6.2f} %   (no more than this can be true)",
        f"  verified accuracy  {100 * verdicts['verified_accuracy']:6.2f} %   (proven; 95 % interval of the "
        f"population {low:.2f} to {high:.2f})",
    ]
    if "ibp" in document.get("num_verified_by", {}):
        share = f"{100 * document['num_verified_by']['ibp'] / document['num_examples']:6.2f} %"
        lines.append(f"  by intervals alone {share}")
    return [*lines, f"  certified radius   median {np.median(radii):.4g}, largest {radii.max():.4g}   (by intervals)"]


def by_stage(verdicts: Record) -> list[str]:
    """A table of what each stage did, and what it left."""
    lines = ["", "  stage        images  verified  seconds an image"]
    for stage in verdicts["stages"]:
        seconds = "-" if stage["seconds_per_image"] is None else f"{stage['seconds_per_image']:.4f}"
        stopped = f"   stopped: out of {stage['stopped']}" if stage["stopped"] else ""
        verified = "" if stage["name"] == "pgd" else stage["num_verified"]
        lines.append(f"  {stage['name']:<12} {stage['num_images']:6} {verified:>9}  {seconds:>16}{stopped}")
    lines.append(
        f"  verified {verdicts['num_verified']}, falsified {verdicts['num_falsified']} (answered wrongly, or a "
        f"counterexample was found), unknown {verdicts['num_unknown']}"
    )
    if verdicts["unrelaxed"]:
        names = ", ".join(verdicts["unrelaxed"])
        lines.append(f"  Without linear bounds, and so taken at their intervals, which are looser: {names}.")
    return [*lines, ""]
