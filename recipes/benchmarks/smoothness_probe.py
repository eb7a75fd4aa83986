"""Cost of `SmoothnessProbe`: a run with it against the same run without, side by side.

python recipes/benchmarks/smoothness_probe.py
"""

import statistics
import time
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import hf_warmup


ROUNDS, UPDATES = 7, 40


def seconds(probe: hf_warmup.SmoothnessProbe | None) -> float:
    """Time of a run of a small GPT-2 on random characters."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 65, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, loss_type="ForCausalLM"))
    data = [{"input_ids": block, "labels": block} for block in torch.randint(0, 65, (32 * 8, 64))]
    loader = hf_warmup.shuffled_loader(data, batch_size=32, seed=0)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.9))
    scheduler = hf_warmup.get_schedule(optimizer, 0, UPDATES)
    config = hf_warmup.TrainConfig(num_training_steps=UPDATES, update_statistics_every=0)
    accelerator = hf_warmup.make_accelerator()

    def objective(model: torch.nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return model(**batch).loss, {}

    started = time.perf_counter()
    for _ in hf_warmup.train(accelerator, model, optimizer, scheduler, loader, objective, config, probe=probe):
        pass
    return time.perf_counter() - started


def main() -> None:
    """Alternate all, and print the ratios of their medians."""
    probes: dict[str, dict[str, Any] | None] = {
        "without": None,
        "every=10": {"every": 10},
        "every=1": {"every": 1},
        "every=10, points=4": {"every": 10, "points": 4},
        "every=10, hessian=True": {"every": 10, "hessian": True},
    }
    times: dict[str, list[float]] = {name: [] for name in probes}
    for _ in range(ROUNDS):
        for name, options in probes.items():
            times[name].append(seconds(None if options is None else hf_warmup.SmoothnessProbe(**options)))
    base = statistics.median(times["without"])
    for name, found in times.items():
        print(f"{name:<26}{statistics.median(found) / base:5.2f} times as long as without")


if __name__ == "__main__":
    main()
