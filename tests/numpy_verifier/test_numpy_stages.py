"""CROWN's verdicts proven again with NumPy: equal to what makes them, sound, and refused when anything is changed."""

import copy
import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chains import CASES, SIZES, lively, some_images
from safetensors.torch import load, save

from hf_warmup import certify
from hf_warmup.bounds.box import box_of
from hf_warmup.bounds.linear import LINEAR_RULES
from hf_warmup.certified import Verifier, certified_radius
from hf_warmup.certified.certificate import make_document
from hf_warmup.certified.evaluation import assess
from hf_warmup.certified.linear_stages import linear_stage
from hf_warmup.certified.staged import evidence_of, staged_document
from hf_warmup.data.images import Images
from hf_warmup.models.source import ModelSource
from hf_warmup.numpy_verifier import lines
from hf_warmup.numpy_verifier import network as bounds
from hf_warmup.numpy_verifier.claims import read_claims
from hf_warmup.numpy_verifier.evidence import COUNTEREXAMPLES, SLOPES, is_near
from hf_warmup.numpy_verifier.verifier import reprove
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.studies.certification.run import save_model


@pytest.mark.parametrize(("architecture", "batch_norm"), [case for case in CASES if case[0] != "cnn7"])
def test_numpy_finds_the_margins_of_torch_and_none_is_broken(
    architecture: str, batch_norm: str, tmp_path: Path
) -> None:
    model = lively(3, architecture, batch_norm, **SIZES[architecture])
    images, eps = some_images(3, model, 3), 0.03
    save_model(model, tmp_path)
    network, batch = bounds.read_network(tmp_path), images.__getitems__(range(3))
    pixels, labels = batch["pixel_values"].double(), batch["labels"]
    exact, generator = Verifier(model).exact, torch.Generator().manual_seed(0)
    lower, upper = (pixels - eps).clamp(min=0), (pixels + eps).clamp(max=1)
    points = lower + (upper - lower) * torch.rand(500, *pixels.shape, dtype=torch.float64).round()
    with torch.no_grad():
        logits = exact(points.flatten(0, 1)).logits.view(500, 3, -1)
        reached = logits.gather(2, labels.expand(500, 3)[..., None])[..., 0]
        reached = reached - logits.scatter(2, labels.expand(500, 3)[..., None], -torch.inf).amax(2)
        for stage in ("crown-ibp", "crown"):
            theirs, _ = linear_stage(stage, exact, box_of(pixels, eps), labels, LINEAR_RULES, set(), generator)
            ours = lines.margins(network, pixels.numpy(), labels.numpy(), eps, stage)
            assert ours == pytest.approx(theirs.numpy(), rel=1e-10, abs=1e-10)
            assert (ours <= reached.amin(0).numpy()).all()


def test_rounding_is_paid_for_where_terms_cancel() -> None:
    """Every ReLU is active, so lines lose nothing: the exact least lead is known as a fraction."""
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(6, 4)) * 1e6, generator.normal(size=(6, 6)) * 1e6, generator.normal(size=(2, 6))]
    biases = [np.full(6, 1e9), np.full(6, 1e20), np.array([3.3e19, -1.7e19])]
    network = bounds.Network(
        np.zeros((1, 1, 1, 1)),
        np.ones((1, 1, 1, 1)),
        [bounds.Layer(weight, bias, np.zeros_like(bias)) for weight, bias in zip(weights, biases, strict=True)],
        (1, 2, 2),
    )
    image, eps = generator.uniform(0.3, 0.7, size=(1, 1, 2, 2)), 0.125
    below = 0
    for label in (0, 1):
        row = [Fraction(a) - Fraction(b) for a, b in zip(weights[2][label], weights[2][1 - label], strict=True)]
        least = Fraction(biases[2][label]) - Fraction(biases[2][1 - label])
        for weight, bias in zip(weights[1::-1], biases[1::-1], strict=True):
            least += sum(a * Fraction(b) for a, b in zip(row, bias, strict=True))
            row = [sum(a * Fraction(w) for a, w in zip(row, column, strict=True)) for column in weight.T]
        pixels = [Fraction(each) for each in image.ravel()]
        least += sum(a * x - abs(a) * Fraction(eps) for a, x in zip(row, pixels, strict=True))
        found = lines.margins(network, image, np.array([label]), eps, "crown")[0]
        size = sum(abs(a) for a in row)
        assert Fraction(found) <= least <= Fraction(found) + abs(least) / 10**6 + size
        below += Fraction(found) < least
    assert below == 2


def test_what_overflows_proves_nothing() -> None:
    layers = [bounds.Layer(np.full((2, 4), 1e200), np.zeros(2), np.zeros(2)) for _ in range(1)]
    layers += [bounds.Layer(np.full((2, 2), 1e200), np.zeros(2), np.zeros(2))]
    layers += [bounds.Layer(np.array([[1.0, 0.0], [0.0, -1.0]]), np.zeros(2), np.zeros(2))]
    network = bounds.Network(np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), layers, (1, 2, 2))
    for stage in lines.STAGES:
        found = lines.margins(network, np.full((1, 1, 2, 2), 0.5), np.array([0]), 0.1, stage)
        assert not (found > 0).any()


Made = tuple[Path, Images, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A checkpoint, images of which every stage proves some, and their certificate."""
    folder = tmp_path_factory.mktemp("staged")
    model = lively(3, "mlp", "none", **SIZES["mlp"])
    save_model(model, folder)
    images, eps = some_images(3, model, 40), "3/50"
    images.labels[:2] = (images.labels[:2] + 1) % 4
    batch = images.__getitems__(range(40))
    radii = certified_radius(model, batch["pixel_values"], batch["labels"], eps_max=0.2)
    document = make_document(ModelSource(folder), "random", "test", eps, images, assess(model, images, eps), radii)
    found = certify(model, batch["pixel_values"], batch["labels"], eps=eps)
    files = evidence_of(found)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    document = staged_document(document, "cascade", found, files)
    assert min(document["num_verified_by"].values()) > 1
    assert document["num_falsified"] > 2
    return folder, images, document


def problems(made: Made, document: dict[str, Any], **options: Any) -> list[str]:
    folder, images, _ = made
    arrays = (images.images.numpy(), images.labels.numpy(), images.levels)
    return reprove(folder, document, *arrays, **options)


def test_every_stage_is_proven_again(made: Made) -> None:
    assert problems(made, made[2]) == []
    assert problems(made, made[2], examples=9) == []


def move(document: dict[str, Any], image: int, stage: str | None) -> None:
    """Say that another stage proved an image, as a forger would: with all that follows from it."""
    images, was = document["images"], document["images"]["verified_by"][image]
    images["verified_by"][image], images["verified"][image] = stage, int(stage is not None)
    images["margin"][image] = 1e-9 if stage == "ibp" else None
    images["falsified"][image] = 0
    for name, change in ((was, -1), (stage, 1)):
        if name is not None:
            document["num_verified_by"][name] += change
    document["num_verified"] = sum(images["verified"])
    document["num_falsified"] = sum(images["falsified"])
    document["num_unknown"] = 40 - document["num_verified"] - document["num_falsified"]
    document["verified_accuracy"] = document["num_verified"] / 40
    if was == "ibp" or stage == "ibp":
        images["radius"][image] = document["eps_value"] if stage == "ibp" else 0.0


@pytest.mark.parametrize(("stage", "claimed"), [("crown", "ibp"), ("crown", "crown-ibp"), ("alpha-crown", "crown")])
def test_an_earlier_stage_did_not_prove_it(made: Made, stage: str, claimed: str) -> None:
    document = copy.deepcopy(made[2])
    move(document, document["images"]["verified_by"].index(stage), claimed)
    slopes = load((made[0] / SLOPES).read_bytes())
    keep = torch.tensor([document["images"]["verified_by"][int(i)] == "alpha-crown" for i in slopes["image"]])
    rewritten = save({name: part[keep] for name, part in slopes.items()})
    document["slopes_sha256"] = hashlib.sha256(rewritten).hexdigest()
    original = (made[0] / SLOPES).read_bytes()
    try:
        (made[0] / SLOPES).write_bytes(rewritten)
        found = problems(made, document)
    finally:
        (made[0] / SLOPES).write_bytes(original)
    assert any("NumPy does not prove them" in each for each in found)


def test_an_image_that_is_unknown_is_not_proven(made: Made) -> None:
    images = made[2]["images"]
    for image, stage in enumerate(images["verified_by"]):
        if stage is None and images["prediction"][image] == images["label"][image] and not images["falsified"][image]:
            for claimed in ("ibp", "crown-ibp", "crown"):
                document = copy.deepcopy(made[2])
                move(document, image, claimed)
                document["verified_interval"] = list(clopper_pearson(document["num_verified"], 40))
                assert any("NumPy does not prove" in each for each in problems(made, document))
            return
    pytest.fail("no image is unknown")


Change = Callable[[dict[str, torch.Tensor]], Any]
SLOPE_CHANGES: dict[str, tuple[Change, str]] = {
    "steep": (lambda it: it["relu.0"].fill_(1.5), "outside"),
    "negative": (lambda it: it["relu.1"].neg_().sub_(0.1), "outside"),
    "no number": (lambda it: it["relu.0"].fill_(torch.nan), "outside"),
    "poor": (lambda it: [it[name].copy_(1 - it[name].round()) for name in ("relu.0", "relu.1")], "does not prove"),
    "other image": (lambda it: it["image"].add_(1), "belongs to no image"),
    "other order": (lambda it: it.update(image=it["image"].flip(0)), "ascending"),
    "own class": (lambda it: it.update(rival=torch.full_like(it["rival"], 9)), "belongs to no"),
    "double": (lambda it: it.update({"relu.0": it["relu.0"].double()}), "float32"),
    "shape": (lambda it: it.update({"relu.0": it["relu.0"][:, :-1].contiguous()}), "float32 of"),
    "missing": (lambda it: it.pop("relu.1"), "expected image"),
    "more": (lambda it: it.update(x=torch.zeros(1)), "expected image"),
    "none": (lambda it: it.update({name: part[:0] for name, part in it.items()}), "does not prove"),
}


@pytest.mark.parametrize("name", SLOPE_CHANGES)
def test_no_other_slopes_hold_though_they_are_hashed_anew(made: Made, name: str) -> None:
    change, message = SLOPE_CHANGES[name]
    original = (made[0] / SLOPES).read_bytes()
    tensors = load(original)
    change(tensors)
    changed = save({key: part.contiguous() for key, part in tensors.items()})
    document = {**made[2], "slopes_sha256": hashlib.sha256(changed).hexdigest()}
    try:
        (made[0] / SLOPES).write_bytes(changed)
        try:
            found = problems(made, document)
        except ValueError as error:
            found = [str(error)]
        assert len(found) == 1
        assert message in found[0]
        with pytest.raises(ValueError, match="not the file of the certificate"):
            problems(made, made[2])
    finally:
        (made[0] / SLOPES).write_bytes(original)


POINT_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "outside the radius": (lambda it: it["pixel_values"].__setitem__((-1, 0, 0, 0), 0.5 - 0.4), "outside the radius"),
    "outside [0, 1]": (lambda it: it["pixel_values"].__setitem__((0, 0, 0, 0), -1e-9), "outside the radius"),
    "no number": (lambda it: it["pixel_values"].__setitem__((0, 0, 0, 0), np.nan), "outside the radius"),
    "other image": (lambda it: it["index"].__iadd__(1), "index must hold"),
    "float32": (lambda it: it.update(pixel_values=it["pixel_values"].astype(np.float32)), "float64"),
    "none": (lambda it: it.update(pixel_values=it["pixel_values"][:0]), "float64"),
    "objects": (lambda it: it.update(index=np.array([None, "x"], dtype=object)), "no arrays can be read"),
    "harmless": (lambda it: it.update(pixel_values=it["unharmed"]), "does not see misclassified"),
}


@pytest.mark.parametrize("name", POINT_CHANGES)
def test_no_other_points_refute_though_they_are_hashed_anew(made: Made, name: str) -> None:
    folder, images, original_document = made
    change, message = POINT_CHANGES[name]
    original = (folder / COUNTEREXAMPLES).read_bytes()
    with np.load(folder / COUNTEREXAMPLES) as arrays:
        found = dict(arrays)
    found["unharmed"] = (images.images.numpy()[found["index"]].astype(np.float32) / np.float32(255)).astype(np.float64)
    change(found)
    found.pop("unharmed")
    place = folder / COUNTEREXAMPLES
    np.savez(place, **found)
    document = {**original_document, "counterexamples_sha256": hashlib.sha256(place.read_bytes()).hexdigest()}
    try:
        try:
            wrong = problems(made, document)
        except ValueError as error:
            wrong = [str(error)]
    finally:
        place.write_bytes(original)
    assert any(message in each for each in wrong), wrong


def test_points_at_the_very_edge_are_measured_exactly(made: Made) -> None:
    """A float64 that lies beyond x + eps by less than it can show is outside."""
    folder, images, _ = made
    claims = read_claims(made[2])
    image = (images.images[5].numpy().astype(np.float32) / np.float32(255)).astype(np.float64)
    image[:] = 0.25
    edge = image + claims.eps
    exact = Fraction(float(edge.flat[0])) - Fraction(1, 4) <= Fraction(3, 50)
    assert is_near(edge, image, claims) == exact
    assert not is_near(np.nextafter(edge, 1.0), image, claims)
    assert is_near(edge - 2.0**-50, image, claims)
