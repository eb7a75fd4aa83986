"""Curvature against loss along the training of two networks: does it fall with the loss, as the theory assumes?

A ResNet-18 of an eighth of the width on 5,000 images of CIFAR-10, and a GPT-2 of two layers on tiny shakespeare, each
trained by SGD and by AdamW at a constant rate without warmup, and measured by `SmoothnessProbe` every eighth update on
the update's own batch, f* = 0. The paper (Liu, Ge, Pan, Kang & Zhang, arXiv 2509.07972) shows such pictures for
ResNet-18 on CIFAR-10 and nanoGPT on tiny shakespeare; widths, lengths and rates here are ours, chosen for a CPU and
not by their result.

python recipes/theory/networks.py [--cifar10 FOLDER] [--shakespeare FILE] [--out FOLDER]

It takes about two minutes on one core. CIFAR-10 is the Hub's unless a folder is given; the text is the usual file
of 1,115,394 characters.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from accelerate.utils import set_seed
from matplotlib.figure import Figure
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

import hf_warmup
from hf_warmup.cli.smoothness import make_document
from hf_warmup.data.config import DataConfig, ModelConfig, SplitConfig
from hf_warmup.data.images import load_split, same
from hf_warmup.data.kinds import CharactersTask
from hf_warmup.data.tasks import load_task
from hf_warmup.records.files import Record, write_json
from hf_warmup.records.provenance import versions
from hf_warmup.report.plots import STYLE, save_figure
from hf_warmup.report.plots.smoothness import draw_measurements


EVERY, UPDATES, SEED = 8, 640, 0
OPTIMIZERS: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.1}, "AdamW": {"lr": 1e-3, "betas": (0.9, 0.99)}}


def resnet(folder: str | None, *, examples: int = 5000) -> tuple[nn.Module, Any]:
    """ResNet-18's layout and the first images of CIFAR-10, in batches of 64."""
    config = DataConfig(name="uoft-cs/cifar10", folder=folder, mode="RGB", train_split=f"train[:{examples}]")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 32, 64], "depths": [2, 2, 2, 2], "num_labels": 10}
    model = ResNetForImageClassification(ResNetConfig(layer_type="basic", **sizes))
    return model, hf_warmup.shuffled_loader(load_split(config, "train"), batch_size=64, seed=SEED, collate=same)


def gpt(path: str) -> tuple[nn.Module, Any]:
    """A GPT-2 of two layers and blocks of 64 characters, in batches of 32."""
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    parts = SplitConfig(validation=400, test=400)
    config = CharactersTask(name="shakespeare", kind="characters", dataset=path, splits=parts, max_length=64)
    task = load_task(config, ModelConfig(architecture="gpt2", config=sizes))
    return task.make_model(), hf_warmup.shuffled_loader(task.train, batch_size=32, seed=SEED, collate=task.collate)


def measure(network: str, make: Callable[[], tuple[nn.Module, Any]], name: str, *, updates: int = UPDATES) -> Record:
    """Train, and fit what the probe saw; the first update is measured as well."""
    set_seed(SEED)
    model, loader = make()
    settings = OPTIMIZERS[name]
    optimizer = getattr(torch.optim, name)(model.parameters(), **settings)
    scheduler = hf_warmup.get_schedule(optimizer, 1, updates, warmup="linear_warmup", decay="constant")
    probe = hf_warmup.SmoothnessProbe(every=EVERY)
    config = hf_warmup.TrainConfig(num_training_steps=updates, max_grad_norm=None, update_statistics_every=0)

    def objective(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return model(**batch).loss, {}

    accelerator = hf_warmup.make_accelerator()
    for _ in hf_warmup.train(accelerator, model, optimizer, scheduler, loader, objective, config, probe=probe):
        pass
    document = make_document(probe.records, f_star=0.0, quantile=0.9, beta2=0.99)
    parameters = sum(p.numel() for p in model.parameters())
    return {"network": network, "parameters": parameters, "optimizer": name, "settings": settings, **document}


def sentence(run: Record) -> str:
    """What a run shows, in words."""
    fit, measured = run["fit"], run["measurements"]
    means = [
        sum(values) / len(values)
        for part in (slice(10), slice(-10, None))
        for values in (measured["loss"][part], measured["smoothness"][part])
    ]
    found = (
        f"{run['network']}, {run['optimizer']}: as the loss fell from {means[0]:.2f} to {means[2]:.2f} the curvature "
        f"went from {means[1]:.1f} to {means[3]:.1f} (means of ten measurements)"
    )
    if fit["verdict"] != "supported":
        return f"{found}; the data do not support the model ({fit['verdict']})."
    low, high = fit["rho_interval"]
    return (
        f"{found}; 90 % lie below {fit['k0']:.3g} + {fit['krho']:.3g} gap^{fit['rho']:.2f} (95 % interval of rho "
        f"{low:.2f} to {high:.2f}, R^2 {fit['r_squared']:.2f})."
    )


def draw(results: Record) -> Figure:
    """The clouds with their fits, colored by update: a row each network, a column each optimizer."""
    figure = Figure(figsize=(9.2, 8.4), layout="constrained")
    for axes, run in zip(figure.subplots(2, 2).flat, results["runs"], strict=True):
        draw_measurements(figure, axes, run)
        axes.set_title(f"{run['network']}, {run['optimizer']}")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all, write results.json and plot.png, and print what they show."""
    parser = argparse.ArgumentParser(description="Curvature against loss along the training of two networks.")
    parser.add_argument("--cifar10", help="folder of CIFAR-10 in the Hub data set's columns")
    parser.add_argument("--shakespeare", default="input.txt", help="the text")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(""), help="folder of the two files")
    options = parser.parse_args(arguments)
    networks = {
        "ResNet-18, width 8 to 64": partial(resnet, options.cifar10),
        "GPT-2, 2 layers of width 64": partial(gpt, options.shakespeare),
    }
    runs = [measure(network, make, name) for network, make in networks.items() for name in OPTIMIZERS]
    words = " ".join(sentence(run) for run in runs)
    settings = {"updates": UPDATES, "every": EVERY, "seed": SEED, "f_star": 0.0}
    results = {**settings, "device": "cpu", "versions": versions(), "sentence": words, "runs": runs}
    write_json(options.out / "results.json", results)
    with matplotlib.rc_context(STYLE):
        save_figure(draw(results), options.out / "plot.png")
    print(words)


if __name__ == "__main__":
    main()
