"""What people hand over: tensors of any class are taken or refused in one line, and models that take other things."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import BertConfig, BertForSequenceClassification

from hf_warmup import CertifiedObjective, certify
from hf_warmup.models.factory import logits_of_zeros


class Named(Tensor):
    """As torchvision's images: a tensor of a class of its own."""


class Refusing(Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("whatever is asked")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def batch(model: nn.Module) -> tuple[Tensor, Tensor]:
    """The label of the first image is not the model's answer."""
    images = torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    return images, labels


def inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def fake(x: Tensor) -> Tensor:
    with FakeTensorMode():
        return torch.empty(x.shape, dtype=x.dtype)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.as_subclass(Named),
        lambda x: x.as_subclass(Refusing),
        lambda x: nn.Parameter(x) if x.is_floating_point() else x,
        lambda x: x * x.clone().fill_(1).requires_grad_() if x.is_floating_point() else x,
        lambda x: torch.stack([x, x], -1)[..., 0],
        inference,
    ],
)
@pytest.mark.parametrize("method", ["ibp", "cascade"])
def test_tensors_of_other_kinds_mean_their_numbers(method: str, change: Callable[[Tensor], Tensor]) -> None:
    model = net()
    images, labels = batch(model)
    expected = certify(model, images, labels, eps=0.02, method=method)
    radii = torch.full((6,), expected.eps, dtype=torch.float64)
    for found in (
        certify(model, change(images), change(labels), eps=0.02, method=method),
        certify(model, images, labels, eps=change(radii), method=method),
    ):
        assert type(found.margin) is type(found.counterexamples) is Tensor
        assert torch.equal(found.margin, expected.margin)
        assert not found.margin.requires_grad


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: x.to_sparse(), "torch.sparse_coo tensor on cpu"),
        (lambda x: x.to("meta"), "torch.strided tensor on meta"),
        (fake, "FakeTensor"),
    ],
)
def test_tensors_without_numbers_in_memory_are_refused(change: Callable[[Tensor], Tensor], kind: str) -> None:
    model = net()
    images, labels = batch(model)
    with pytest.raises(ValueError, match=f"pixel_values must be an ordinary dense tensor, got a {kind}: convert it"):
        certify(model, change(images), labels, eps=0.02)
    with pytest.raises(ValueError, match="eps must be an ordinary dense tensor"):
        certify(model, images, labels, eps=change(torch.zeros(6)))


def test_counterexamples_are_not_written_into_the_images() -> None:
    model = net().double()
    images, labels = batch(net())
    images = images.double()
    before = images.clone()
    found = certify(model, images, labels, eps=0.5)
    assert found.falsified is not None
    assert found.falsified[1:].any()
    assert torch.equal(images, before)


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, 3)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        return self.last(inputs["pixel_values"].flatten(1))


class TakingMore(ByKeyword):
    def forward(self, pixel_values: Any, mask: Any) -> Any:
        return self.last(pixel_values.flatten(1))


def language() -> nn.Module:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=9, **sizes))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (ByKeyword, r"KeyError: 'pixel_values'\): its forward takes \(args, inputs\)"),
        (TakingMore, r"missing 1 required positional argument: 'mask'\): its forward takes \(pixel_values, mask\)"),
        (language, r"\(ValueError: .*\): its forward takes \(input_ids, attention_mask"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), "RuntimeError: mat1 and mat2 shapes"),
    ],
)
def test_models_that_take_no_images_alone_are_named(make: Callable[[], nn.Module], reason: str) -> None:
    images, labels = batch(net())
    with pytest.raises(ValueError, match=r"images alone, model\(pixel_values\), of shape .*" + reason) as found:
        certify(make().eval(), images, labels, eps=0.02)
    assert "\n" not in str(found.value)
    assert str(found.value).endswith("whose forward takes pixel_values and returns logits: wrap it in one.")


class Dictionary(nn.Module):
    """As models for transformers' Trainer may answer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixel_values: Any) -> dict[str, Any]:
        return {"loss": None, "logits": self.inner(pixel_values)}


def test_logits_may_stand_in_a_dictionary() -> None:
    model = net()
    images, labels = batch(model)
    for method in ("ibp", "cascade"):
        plain, named = (
            certify(each.eval(), images, labels, eps="1/50", method=method) for each in (model, Dictionary(model))
        )
        assert plain.verified.any()
        assert torch.equal(plain.margin, named.margin)
        assert plain.method == named.method
    objective = CertifiedObjective(eps_max=0.02, ramp=lambda step: 1.0)
    losses = [
        objective(each.train(), {"pixel_values": images, "labels": labels}, 5)[0]
        for each in (model, Dictionary(model))
    ]
    assert losses[0] == losses[1]
    assert logits_of_zeros(Dictionary(model), (3, 2, 2), "file.py:make").shape == (1, 3)


def test_what_is_no_model_is_said() -> None:
    images, labels = batch(net())
    with pytest.raises(ValueError, match="must be a torch.nn.Module, got function"):
        certify(lambda x: x, images, labels, eps=0.02)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no parameters"):
        certify(nn.Flatten().eval(), images, labels, eps=0.02)


@pytest.mark.parametrize(
    ("given", "found"), [({"input_ids": torch.zeros(1)}, "input_ids"), ((torch.zeros(1), torch.zeros(1)), "tuple")]
)
def test_batches_of_other_names_are_said(given: Any, found: str) -> None:
    objective = CertifiedObjective(eps_max=0.1, ramp=lambda step: 1.0)
    with pytest.raises(ValueError, match=f"a batch must have pixel_values and labels, got {found}"):
        objective(net(), given, 0)
