"""Bounds with NumPy: they enclose the exact margins, agree with torch, and read nothing that is garbled."""

import copy
import json
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chains import CASES, SIZES, lively, some_images
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from hf_warmup.certified import pgd
from hf_warmup.certified.verifier import Verifier
from hf_warmup.models import CertifiedForImageClassification
from hf_warmup.numpy_verifier import network as numpy_network
from hf_warmup.numpy_verifier import verifier as numpy_verifier
from hf_warmup.numpy_verifier.network import Box, Layer, margins, read_network
from hf_warmup.studies.certification.run import save_model


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**31), eps=st.sampled_from([1e-6, 1e-4, 1e-3, 0.02]))
@pytest.mark.parametrize(("architecture", "batch_norm"), CASES)
def test_agrees_with_torch_and_no_point_beats_it(
    tmp_path_factory: pytest.TempPathFactory, architecture: str, batch_norm: str, seed: int, eps: float
) -> None:
    model = lively(seed, architecture, batch_norm, **SIZES[architecture])
    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder)
    batch = some_images(seed, model).__getitems__(range(6))
    pixels, labels = batch["pixel_values"], batch["labels"]
    each = np.full(6, eps)
    lower, upper = margins(read_network(folder), pixels.double().numpy(), labels.numpy(), each)
    assert (lower < upper).all()
    verifier = Verifier(model)
    certificate = verifier.certify(pixels, labels, eps=eps)
    slack = verifier.rounding_slack(pixels, labels, certificate).numpy()
    verified, margin = certificate.verified.numpy(), certificate.margin.numpy()
    assert np.isnan(slack[~verified]).all()
    # Torch's margin is a bound, the exact one lies in between, and neither gave up more than it says.
    assert (margin <= upper)[verified].all()
    assert (margin + 2 * slack >= lower)[verified].all()
    assert (slack <= 10 * (upper - lower))[verified].all()
    assert (abs(margin - lower) <= numpy_verifier.FLOAT32_ERROR * (upper - lower))[~verified].all()
    assert (lower > 0)[verified].all()
    # A pass in float32 may deny what is proven by less than it loses itself; one in float64 does not.
    exact = Verifier(copy.deepcopy(model).double()).certify(pixels.double(), labels, eps=eps)
    assert ((lower > 0) == exact.verified.numpy())[abs(lower) > 1e-6].all()
    attacked = pgd(model, pixels, labels, eps, steps=5, restarts=1, generator=torch.Generator().manual_seed(0))
    assert not (attacked.broken.numpy() & (lower > 0)).any()
    # Corners, which come closest, in float64.
    exact, double = copy.deepcopy(model).double(), pixels.double()
    for corner in range(20):
        signs = torch.randint(0, 2, double.shape, generator=torch.Generator().manual_seed(corner)) * 2 - 1
        logits = exact((double + eps * signs).clamp(0, 1)).logits.detach()
        own = logits.gather(1, labels[:, None]).squeeze(1)
        rival = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        assert ((own - rival).numpy() >= lower).all()


def to_decimal(values: Any) -> Any:
    return np.vectorize(Decimal, otypes=[object])(np.asarray(values, dtype=np.float64))


def exact_margins(model: CertifiedForImageClassification, pixels: Any, labels: Any, eps: float) -> list[float]:
    """The margins of interval bounds in 60 digits, layer by layer on two ends, rounded at the very end."""
    low = np.maximum(to_decimal(pixels) - Decimal(eps), Decimal(0))
    high = np.minimum(to_decimal(pixels) + Decimal(eps), Decimal(1))
    mean, std = (to_decimal(part) for part in (model.normalization.mean, model.normalization.std))
    low, high = (low - mean) / std, (high - mean) / std
    for layer in [*model.network][:-1]:
        if isinstance(layer, nn.Flatten):
            low, high = low.reshape(len(low), -1), high.reshape(len(high), -1)
        elif isinstance(layer, nn.ReLU):
            low, high = np.maximum(low, Decimal(0)), np.maximum(high, Decimal(0))
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            parts = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            view = (1, -1, *[1] * (low.ndim - 2))
            gain, offset, center, variance = (to_decimal(part.detach()).reshape(view) for part in parts)
            scale = gain / np.vectorize(lambda x: (x + Decimal(1e-5)).sqrt(), otypes=[object])(variance)
            ends = (low - center) * scale + offset, (high - center) * scale + offset
            low, high = np.minimum(*ends), np.maximum(*ends)
        else:
            low, high = exact_affine(layer, low, high)
    weight, bias = (to_decimal(part.detach()) for part in (model.network[-1].weight, model.network[-1].bias))
    found = []
    for row, label in enumerate(labels):
        leads = []
        for rival in set(range(len(bias))) - {int(label)}:
            lead = weight[label] - weight[rival]
            least = np.where(lead > 0, lead * low[row], lead * high[row]).sum()
            leads.append(least + bias[label] - bias[rival])
        found.append(min(leads))
    return found


def exact_affine(layer: Any, low: Any, high: Any) -> tuple[Any, Any]:
    weight, bias = to_decimal(layer.weight.detach()), to_decimal(layer.bias.detach())
    if weight.ndim == 4:
        pad, stride = [(0, 0), (0, 0), (1, 1), (1, 1)], layer.stride[0]
        low, high = (np.pad(part, pad, constant_values=Decimal(0)) for part in (low, high))
        size = (low.shape[2] - 3) // stride + 1
        result = np.empty((2, len(low), len(bias), size, size), dtype=object)
        for i, j in np.ndindex(size, size):
            place = np.s_[:, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
            flat = (part[place].reshape(len(low), -1) for part in (low, high))
            result[0, :, :, i, j], result[1, :, :, i, j] = exact_matrix(weight.reshape(len(bias), -1), bias, *flat)
        return result[0], result[1]
    return exact_matrix(weight, bias, low, high)


def exact_matrix(weight: Any, bias: Any, low: Any, high: Any) -> tuple[Any, Any]:
    positive, negative = np.maximum(weight, Decimal(0)).T, np.minimum(weight, Decimal(0)).T
    return low @ positive + high @ negative + bias, high @ positive + low @ negative + bias


@pytest.mark.parametrize("batch_norm", ["full", "none"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"architecture": "mlp", "image_size": 3, "hidden_sizes": [6, 5]},
        {
            "architecture": "cnn_small",
            "image_size": 4,
            "hidden_sizes": [2, 3],
            "strides": [2, 1],
            "dense_size": 4,
        },
    ],
    ids=lambda sizes: str(sizes["architecture"]),
)
def test_exact_margin_lies_between(tmp_path: Path, sizes: dict[str, Any], batch_norm: str) -> None:
    for seed in range(3):
        model = lively(seed, batch_norm=batch_norm, **sizes)
        save_model(model, tmp_path)
        batch = some_images(seed, model, 3).__getitems__(range(3))
        pixels, labels = batch["pixel_values"].double().numpy(), batch["labels"].numpy()
        for eps in (0.0, 0.003, 0.3):
            with localcontext() as context:
                context.prec = 60
                exact = exact_margins(model, pixels, labels, eps)
                lower, upper = margins(read_network(tmp_path), pixels, labels, np.full(3, eps))
                for low, value, high in zip(lower, exact, upper, strict=True):
                    assert Decimal(float(low)) < value < Decimal(float(high))
            assert (upper - lower < 1e-11).all()


def ends(box: Box) -> Any:
    return np.stack([box.center - box.radius, box.center + box.radius])


@given(seed=st.integers(0, 2**31), stride=st.integers(1, 2))
def test_error_covers_ends_that_are_not_known(seed: int, stride: int) -> None:
    """Ends moved by up to the error, which is large here, and a bias and weights off by what a layer allows."""
    random = np.random.default_rng(seed)
    center, radius, error = random.normal(size=(3, 2, 2, 4, 4)) * [[[[[1.0]]]], [[[[0.3]]]], [[[[0.05]]]]]
    box = Box(center, abs(radius) + abs(error), abs(error))
    low, high = ends(box) + box.error * random.choice([-1, 0, 1], size=(2, *center.shape))
    exact = Box((low + high) / 2, (high - low) / 2, np.zeros_like(center))
    for shape in ((3, 2, 3, 3), (3, 32)):
        weight, bias, off = random.normal(size=shape), random.normal(size=3), abs(random.normal(size=3))
        layer = Layer(weight, bias + off * random.choice([-1, 1], size=3), off, stride)
        ours = numpy_network.affine(layer, box)
        theirs = numpy_network.affine(Layer(weight, bias, 0 * off, stride), exact)
        assert (abs(ends(ours) - ends(theirs)) <= ours.error + 1e-12).all()
        assert (
            numpy_network.relu(ours).error
            >= abs(ends(numpy_network.relu(ours)) - ends(numpy_network.relu(theirs))) - 1e-12
        ).all()
    mean, std = random.normal(size=(1, 2, 1, 1)), random.random((1, 2, 1, 1)) + 0.1
    ours, theirs = (numpy_network._normalized(part, mean, std) for part in (box, exact))
    assert (abs(ends(ours) - ends(theirs)) <= ours.error + 1e-12).all()


def test_a_relu_is_dead_only_if_its_upper_end_surely_is() -> None:
    box = Box(np.array([-1.0, -1.0]), np.array([0.99, 0.99]), np.array([0.02, 0.001]))
    error = numpy_network.relu(box).error
    assert error[0] > 0.02
    assert error[1] < 1e-200


def test_sums_that_overflow_on_the_way_are_not_known() -> None:
    weight = np.concatenate([np.full((1, 64), -1e308), np.full((1, 64), 1.1e308)], axis=1)
    box = Box(np.ones((1, 128)), np.zeros((1, 128)), np.zeros((1, 128)))
    with np.errstate(over="ignore", invalid="ignore"):
        found = numpy_network.affine(Layer(weight, np.zeros(1), np.zeros(1)), box)
        after = numpy_network.relu(found)
    assert not np.isfinite(found.center).any()
    assert found.error == np.inf
    assert not np.isfinite(after.error).any()


def test_what_overflows_is_not_proven(tmp_path: Path) -> None:
    model = lively(0, "cnn_small", "full", **SIZES["cnn_small"])
    images = some_images(0, model).__getitems__(range(6))
    save_model(model, tmp_path)
    network = read_network(tmp_path)
    layers = [Layer(x.weight * 1e300, x.bias, x.bias_error, x.stride) for x in network.layers]
    huge = numpy_network.Network(network.mean, network.std, layers, network.shape)
    lower, _ = margins(huge, images["pixel_values"].double().numpy(), images["labels"].numpy(), np.full(6, 0.1))
    assert not (lower > 0).any()


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda at: change_config(at, architecture="wide_resnet8"), "plain chains.*got 'wide_resnet8'"),
        (lambda at: change_config(at, model_type="resnet"), "plain chains"),
        (lambda at: change_config(at, batch_norm="none"), "do not fit .*network.2.weight"),
        (lambda at: change_config(at, batch_norm="some"), "batch_norm must be full, conv or none, got 'some'"),
        (
            lambda at: change_config(at, strides=[1, 1]),
            r"network.7.weight must hold finite float32 numbers, \(8, 245\)",
        ),
        (lambda at: change_config(at, strides=[0, 1]), "do not fit"),
        (lambda at: change_config(at, strides=[2]), "shorter"),
        (lambda at: change_config(at, hidden_sizes=[3, "5"]), "'5' is no count"),
        (lambda at: (at / "config.json").write_text("[]"), "expected a JSON object"),
        (lambda at: (at / "config.json").write_text("{"), "no JSON"),
        (lambda at: change_tensors(at, lambda state: state.update(more=torch.ones(1))), "does not have: more"),
        (lambda at: change_tensors(at, lambda state: state.pop("network.0.bias")), "do not fit .*network.0.bias"),
        (lambda at: change_tensors(at, lambda state: state["network.0.bias"].fill_(torch.nan)), "finite float32"),
        (lambda at: change_tensors(at, lambda state: state["network.0.bias"].fill_(torch.inf)), "finite float32"),
        (
            lambda at: change_tensors(
                at, lambda state: state.update({"network.0.bias": torch.full((3,), 0.1).double() / 3})
            ),
            "finite float32",
        ),
        (
            lambda at: change_tensors(at, lambda state: state["network.1.running_var"].fill_(-1)),
            "must not be negative",
        ),
        (lambda at: change_tensors(at, lambda state: state["normalization.std"].fill_(0)), "must be positive"),
        (
            lambda at: (at / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}'),
            "expected a CertifiedImageProcessor",
        ),
    ],
)
def test_networks_that_are_not_what_they_say_are_refused(
    tmp_path: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    save_model(lively(0, "cnn_small", "full", **SIZES["cnn_small"]), tmp_path)
    read_network(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=reason):
        read_network(tmp_path)


def test_two_classes_leave_no_trace_in_a_config(tmp_path: Path) -> None:
    save_model(lively(0, "mlp", "full", **SIZES["mlp"], num_labels=2), tmp_path)
    assert len(read_network(tmp_path).layers[-1].bias) == 2
