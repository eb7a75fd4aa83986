"""A study's results as `results.json` holds them, made up but lifelike: two tasks, four arms, two learning rates."""

import math
from typing import Any

import numpy as np


ARMS = {
    "adamw": ("adamw", None, 0),
    "adamw+untuned_linear_warmup": ("adamw", "untuned_linear_warmup", 200.0),
    "adamw+linear_warmup": ("adamw", "linear_warmup", 60),
    "radam": ("radam", None, 0),
}
# Mean test score of an arm in each task.
LEVELS = {
    "digits": {
        "adamw": 0.915,
        "adamw+untuned_linear_warmup": 0.957,
        "adamw+linear_warmup": 0.951,
        "radam": 0.954,
    },
    "CoLA (en)": {
        "adamw": 0.41,
        "adamw+untuned_linear_warmup": 0.523,
        "adamw+linear_warmup": 0.519,
        "radam": 0.522,
    },
}
STEPS = 600


def make_results(
    *, seeds: int = 3, learning_rates: tuple[float, ...] = (0.003, 0.01), tasks: int = 2
) -> dict[str, Any]:
    """Results without verdicts; one cell diverged: adamw on digits at the largest rate, last seed."""
    return {
        "format": 1,
        "name": "synthetic",
        "seeds": list(range(seeds)),
        "baseline": "radam",
        "config": {
            "name": "synthetic",
            "model": {"pretrained": None, "architecture": "vit", "config": {"note": "<b>&</b>"}},
            "training": {"num_training_steps": STEPS, "beta2": 0.99, "epochs": None, "log_with": []},
            "learning_rates": list(learning_rates),
            "arms": [{"name": "radam", "optimizer": "radam", "warmup": None, "num_warmup_steps": 0}],
        },
        "versions": {"hf-warmup": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "tasks": [_task(name, seeds, list(learning_rates)) for name in list(LEVELS)[:tasks]],
    }


def _task(name: str, seeds: int, learning_rates: list[float]) -> dict[str, Any]:
    return {
        "name": name,
        "metric": "accuracy" if name == "digits" else "matthews_correlation",
        "margin": 0.01,
        "target": 0.9 if name == "digits" else None,
        "num_training_steps": STEPS,
        "sizes": {"train": 1200, "validation": 300, "test": 297},
        "num_labels": 10,
        "parameters": 58_000,
        "learning_rates": learning_rates,
        "arms": [_arm(name, arm, seeds, learning_rates) for arm in ARMS],
    }


def _arm(task: str, name: str, seeds: int, learning_rates: list[float]) -> dict[str, Any]:
    optimizer, warmup, length = ARMS[name]
    runs = {
        rate: [
            _run(task, name, seed, rate, diverges=_diverges(task, name, seed, rate, seeds)) for seed in range(seeds)
        ]
        for rate in learning_rates
    }
    best = max(learning_rates, key=lambda rate: sum(run["validation"] for run in runs[rate]))
    return {
        "name": name,
        "optimizer": optimizer,
        "warmup": warmup,
        "num_warmup_steps": length,
        "effective_warmup_period": (length - 1) / 2 if warmup else None,
        "grid": [
            {
                "learning_rate": rate,
                "validation": [run["validation"] for run in runs[rate]],
                "diverged": [run["diverged"] for run in runs[rate]],
            }
            for rate in learning_rates
        ],
        "learning_rate": best,
        "runs": runs[best],
    }


def _diverges(task: str, name: str, seed: int, rate: float, seeds: int) -> bool:
    return task == "digits" and name == "adamw" and rate == 0.01 and seed == seeds - 1


def _run(task: str, name: str, seed: int, rate: float, *, diverges: bool) -> dict[str, Any]:
    # The seed alone decides the common part of the noise, as in a paired study.
    shared = np.random.default_rng(seed).normal(0, 0.004)
    noise = np.random.default_rng([seed, len(name), int(rate * 1e6), len(task)])
    level = LEVELS[task][name] - (0.02 if rate > 0.005 else 0.0)
    score = 0.1 if diverges else round(297 * (level + shared + noise.normal(0, 0.002))) / 297
    validation = 0.1 if diverges else round(300 * (level + shared + noise.normal(0, 0.004))) / 300
    places = range(50, 150 if diverges else STEPS + 1, 50)
    evaluations = [{"step": step, "validation": validation * (1 - math.exp(-step / 80))} for step in places]
    reached = [e["step"] for e in evaluations if e["validation"] >= 0.9]
    return {
        "seed": seed,
        "validation": validation,
        "test": score,
        "diverged": diverges,
        "steps_to_target": reached[0] if reached and task == "digits" else None,
        "skipped_steps": 3 if diverges else 0,
        "evaluations": evaluations,
        "curve": _curve(name, rate, noise, diverges=diverges),
    }


def _curve(name: str, rate: float, noise: np.random.Generator, *, diverges: bool) -> dict[str, list[Any]]:
    steps = [*range(1, 65), *range(68, STEPS + 1, 4)]
    length = ARMS[name][2]
    last = 120 if diverges else STEPS
    curve: dict[str, list[Any]] = {"step": steps}
    multiplier = [min(1.0, t / length if length else 1.0) * (1 - (t - 1) / STEPS) for t in steps]
    ratio = [
        max(0.12, t**-0.45) * math.exp(noise.normal(0, 0.04)) * (min(1.0, t / 200) if name == "radam" else 1.0)
        for t in steps
    ]
    loss = [2.3 * math.exp(-t / 90) + 0.1 + 0.08 * noise.normal() for t in steps]
    curve["multiplier"] = multiplier
    curve["lr"] = [rate * m for m in multiplier]
    curve["loss"] = [value if t <= last else None for t, value in zip(steps, loss, strict=True)]
    curve["grad_norm"] = [1.0 if t <= last else None for t in steps]
    curve["update_ratio_mean"] = [r if t <= last else None for t, r in zip(steps, ratio, strict=True)]
    curve["update_ratio_median"] = curve["update_ratio_mean"]
    curve["update_mean"] = [
        r * m * rate if t <= last else None for t, r, m in zip(steps, ratio, multiplier, strict=True)
    ]
    return curve
