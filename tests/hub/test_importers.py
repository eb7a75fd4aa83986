"""Importers: the imported model computes what the foreign one does, and whatever is not exactly known is refused."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_warmup import certify
from hf_warmup.cli.import_weights import import_and_report
from hf_warmup.errors import ConfigError
from hf_warmup.hub.importers import DATASETS, LAYOUTS, import_weights
from hf_warmup.hub.importers.recognition import LOADERS


State = dict[str, Any]
CIFAR_MEAN, CIFAR_STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]


class ForeignNormalization(nn.Module):
    """As the first layer of the layout ctbench."""

    def __init__(self, mean: list[float], sigma: list[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("sigma", sigma)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.sigma


def foreign(
    channels: int, size: int, labels: int, *, norm: str = "full", stride: int = 1, first: nn.Module | None = None
) -> nn.Sequential:
    """Table 7.1 of the specification, written down again, with running statistics that are not the defaults."""
    layers: list[nn.Module] = [] if first is None else [first]
    before, side = channels, size
    for width, step in ((64, 1), (64, 1), (128, 2), (128, 1), (128, stride)):
        layers.append(nn.Conv2d(before, width, 3, stride=step, padding=1))
        layers += [] if norm == "none" else [nn.BatchNorm2d(width)]
        layers.append(nn.ReLU())
        before, side = width, math.ceil(side / step)
    layers += [nn.Flatten(), nn.Linear(before * side * side, 512)]
    layers += [nn.BatchNorm1d(512)] if norm == "full" else []
    network = nn.Sequential(*layers, nn.ReLU(), nn.Linear(512, labels)).eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return network


def renamed(state: State, prefix: str) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def logits_agree(network: nn.Module, folder: Path, mean: list[float], std: list[float]) -> None:
    """Float64 logits of the foreign network, behind its loader's normalization, and of what was imported."""
    model = AutoModelForImageClassification.from_pretrained(folder).eval().double()
    config = model.config
    images = torch.rand(2, config.num_channels, config.image_size, config.image_size, dtype=torch.float64)
    normalized = (images - torch.tensor(mean).double().view(1, -1, 1, 1)) / torch.tensor(std).double().view(
        1, -1, 1, 1
    )
    with torch.no_grad():
        torch.testing.assert_close(model(images).logits, network.double()(normalized), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layout", "dataset", "norm", "wrap", "mean", "std"),
    [
        ("fast-certified", "cifar10", "full", lambda s: {"state_dict": s, "epoch": 3}, CIFAR_MEAN, CIFAR_STD),
        ("fast-certified", "mnist", "none", lambda s: renamed(s, "module."), [0.0], [1.0]),
        ("ctrain", "cifar10", "conv", lambda s: renamed(s, "layers."), CIFAR_MEAN, [0.247, 0.243, 0.261]),
        (
            "ctrain",
            "mnist",
            "full",
            lambda s: {"model_state_dict": renamed(s, "_orig_mod.layers."), "epoch": 1},
            [0.1307],
            [0.3081],
        ),
    ],
)
def test_networks_behind_a_loader(
    tmp_path: Path,
    layout: str,
    dataset: str,
    norm: str,
    wrap: Callable[[State], State],
    mean: list[float],
    std: list[float],
) -> None:
    known = DATASETS[dataset]
    network = foreign(known.num_channels, known.image_sizes[0], known.num_labels, norm=norm)
    torch.save(wrap(network.state_dict()), tmp_path / "weights.pt")
    out = import_weights(tmp_path / "weights.pt", layout, tmp_path / "out", dataset=dataset)
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    logits_agree(network, out, mean, std)


def test_a_network_that_normalizes_itself(tmp_path: Path) -> None:
    """TinyImageNet at 56 pixels; without counters and in another order, as bound libraries write state dicts."""
    first = ForeignNormalization([0.4802, 0.4481, 0.3975], [0.2302, 0.2265, 0.2262])
    network = foreign(3, 56, 200, stride=2, first=first)
    state = {key: tensor for key, tensor in network.state_dict().items() if "num_batches" not in key}
    save_file(dict(reversed(renamed(state, "layers.").items())), tmp_path / "model.safetensors")
    out = import_weights(tmp_path / "model.safetensors", "ctbench", tmp_path / "out", dataset="tinyimagenet")
    logits_agree(network, out, [0.0] * 3, [1.0] * 3)
    model = AutoModelForImageClassification.from_pretrained(out)
    assert (model.config.image_size, model.config.conv5_stride, model.config.num_labels) == (56, 2, 200)
    assert model.config.image_std == [0.2302, 0.2265, 0.2262]
    assert torch.equal(model.normalization.std, first.sigma)
    assert AutoImageProcessor.from_pretrained(out).image_size == 56
    certificate = certify(model, torch.rand(1, 3, 56, 56), torch.tensor([0]), eps="1/255")
    assert certificate.margin.isfinite().all()


def light(*, first: bool = False, **options: Any) -> State:
    """A state dict of zeros of which every tensor is one stored number, so that its file is small."""
    with torch.device("meta"):
        norm_layer = ForeignNormalization([0.1307], [0.3081]) if first else None
        network = foreign(1, 28, 10, first=norm_layer, **options)
    return {
        key: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for key, tensor in network.state_dict().items()
    }


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def without(state: State, *keys: str) -> State:
    return {key: tensor for key, tensor in state.items() if key not in keys}


PARTIAL = [key for layer in (13, 17) for key in light() if key.startswith(f"{layer}.")]


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("fast-certified", lambda s: without(s, "3.bias"), r"missing: 3\.bias; left over: none"),
        ("fast-certified", lambda s: {**s, "5.weight": torch.zeros(3)}, r"missing: none; left over: 5\.weight"),
        ("fast-certified", lambda s: {**s, "9.weight": torch.zeros(128, 128, 5, 5)}, r"9\.weight has the shape"),
        ("fast-certified", lambda s: {**s, "fc.weight": torch.zeros(2)}, r"fc\.weight do not belong"),
        ("fast-certified", lambda s: {**s, "ema.0.weight": torch.zeros(2)}, r"ema\.0\.weight do not belong"),
        ("fast-certified", lambda s: without(s, *PARTIAL), "follows 4"),
        ("fast-certified", lambda s: without(s, "12.weight"), "found 4 and 2"),
        ("fast-certified", lambda s: {**s, "0.weight": torch.zeros(64, 3, 3, 3)}, "mnist has 1 and 10"),
        ("fast-certified", lambda s: {**s, "16.weight": torch.zeros(512, 128 * 9)}, "28 pixels do not give"),
        ("fast-certified", lambda s: {**s, "1.bias": torch.full((64,), math.nan)}, r"1\.bias .* finite"),
        (
            "fast-certified",
            lambda s: {**s, "1.bias": torch.full((64,), 1e300, dtype=torch.float64)},
            r"1\.bias .* finite",
        ),
        ("fast-certified", lambda s: {**s, "1.bias": torch.zeros(64, dtype=torch.int)}, "floating-point"),
        ("fast-certified", lambda s: {**s, "1.running_var": -torch.ones(64)}, "no variance"),
        ("fast-certified", lambda s: {**s, "epoch": 3}, "epoch are not tensors"),
        # Numbered as if a layer without tensors stood first: it might normalize.
        ("ctrain", lambda s: {f"{int(k.split('.')[0]) + 1}.{k.split('.')[1]}": v for k, v in s.items()}, "missing"),
        ("ctrain", lambda _: light(first=True), "the layout with one is ctbench"),
        ("ctbench", lambda s: s, r"starts with a normalization layer, .* found none"),
        ("ctbench", lambda _: without(light(first=True), "0.mean"), r"found 0\.sigma"),
        ("ctbench", lambda _: light(first=True), "image_std must be positive"),
        ("fast-certified", lambda s: list(s.values()), "got a list"),
        ("fast-certified", lambda _: {}, "got a dict"),
    ],
)
def test_other_layers_are_refused(tmp_path: Path, layout: str, change: Callable[[State], Any], message: str) -> None:
    file = save(tmp_path / "weights.pt", change(light()))
    with pytest.raises(ConfigError, match=message):
        import_weights(file, layout, tmp_path / "out", dataset="mnist")
    assert not (tmp_path / "out").exists()


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_files_that_run_code_are_refused(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    torch.save({"state_dict": light(), "extra": Payload(trace)}, tmp_path / "payload.pt")
    (tmp_path / "payload.pkl").write_bytes(pickle.dumps(Payload(trace)))
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "noise.safetensors").write_bytes(b"\x00" * 40)
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("payload.pt", "payload.pkl", "module.pt", "noise.safetensors", "empty.pt"):
        with pytest.raises(ConfigError, match="cannot be loaded as plain tensors"):
            import_weights(tmp_path / name, "fast-certified", tmp_path / "out", dataset="mnist")
    assert not trace.exists()
    # It would have run otherwise.
    torch.load(tmp_path / "payload.pt", weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        ("fast", {"dataset": "mnist"}, "--layout must be one of fast-certified, ctbench, ctrain; got 'fast'"),
        ("ctrain", {"dataset": "svhn"}, "--dataset must be one of"),
        ("ctrain", {}, "do not say how images were normalized"),
        ("ctrain", {"image_mean": [0.1], "image_std": [0.2]}, "state --image-size"),
        ("ctrain", {"dataset": "mnist", "image_mean": [0.1]}, "belong together"),
        (
            "ctrain",
            {"image_size": 28, "image_mean": [0.1] * 3, "image_std": [0.2] * 3},
            "image_mean must have 1 values",
        ),
        ("ctrain", {"dataset": "mnist", "image_size": 32}, "images of 32 pixels do not give"),
        ("ctbench", {"image_size": 28, "image_mean": [0.1], "image_std": [0.2]}, "hold their own mean and sigma"),
    ],
)
def test_other_requests_are_refused(tmp_path: Path, layout: str, options: dict[str, Any], message: str) -> None:
    file = save(tmp_path / "weights.pt", light())
    with pytest.raises(ConfigError, match=message):
        import_weights(file, layout, tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="no such file"):
        import_weights(tmp_path / "none.pt", "ctrain", tmp_path / "out", dataset="mnist")
    with pytest.raises(ConfigError, match="not an empty folder"):
        import_weights(file, "ctrain", tmp_path, dataset="mnist")


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = save(tmp_path / "weights.pt", light()), tmp_path / "out"
    options: dict[str, Any] = {"dataset": None, "image_size": 28, "image_mean": "0.5", "image_std": "0.25"}
    import_and_report(file, layout="ctrain", out=out, **options)
    printed = capsys.readouterr().out
    assert "images of 1 x 28 x 28 and 10 classes" in printed
    assert "after every hidden layer" in printed
    assert "mean 0.5 and deviation 0.25 as stated" in printed
    assert f"hf-warmup certify {out} DATA --eps EPS" in printed
    options |= {"dataset": "mnist", "image_size": None, "image_mean": None, "image_std": None}
    import_and_report(file, layout="ctrain", out=tmp_path / "known", **options)
    printed = capsys.readouterr().out
    assert "mean 0.1307 and deviation 0.3081 of ctrain's loader for mnist" in printed
    assert f"hf-warmup certify {tmp_path / 'known'} ylecun/mnist --eps 1/10" in printed
    import_and_report(file, layout="ctrain", out=tmp_path / "read", **options, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["image_size"], found["num_labels"], found["image_mean"]) == (28, 10, [0.1307])
    for text in ("0.5;0.5", "nan", ""):
        with pytest.raises(ConfigError, match="separated by commas"):
            import_and_report(file, layout="ctrain", out=tmp_path / "other", **{**options, "image_mean": text})


def test_every_loader_is_known() -> None:
    assert set(LOADERS) == set(LAYOUTS) - {"ctbench"}
    for by_dataset in LOADERS.values():
        assert set(by_dataset) == set(DATASETS)
        for name, (mean, std) in by_dataset.items():
            assert len(mean) == len(std) == DATASETS[name].num_channels
