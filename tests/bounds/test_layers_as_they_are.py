"""torch's own composite layers, tensors' idioms and refusals: each model is given intervals without a line changed."""

from collections.abc import Callable
from typing import Any

import einops
import numpy as np
import pytest
import torch
from einops.layers.torch import Rearrange
from torch import nn
from torch.nn import functional as F

from hf_warmup.bounds import Interval, UnsupportedOperation, input_interval, margins, propagate
from hf_warmup.bounds.exact import exactly
from hf_warmup.bounds.interval import latest


DOUBLE = torch.float64
ROUNDOFF = 2.0**-53


def ball(*shape: int, eps: float = 1e-3) -> Interval:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    return input_interval(x, eps, rounding=ROUNDOFF)


def assert_sound(call: Callable[[Any], Any], box: Interval, draws: int = 40) -> Interval:
    bounds = latest(call(box))
    assert bounds.radius.isfinite().all()
    generator = torch.Generator().manual_seed(1)
    for draw in range(draws):
        place = 2 * torch.rand(box.shape, generator=generator, dtype=DOUBLE) - 1
        value = call(box.center + box.radius * (place.sign() if draw % 2 else place))
        assert (value >= bounds.lower - 1e-14).all()
        assert (value <= bounds.upper + 1e-14).all()
    return bounds


@pytest.mark.parametrize(
    "options",
    [{"batch_first": True}, {"norm_first": True, "activation": "gelu"}, {"batch_first": True, "bias": False}],
)
def test_encoder_layers(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, dtype=DOUBLE, **options).eval()
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        assert_sound(encoder, ball(2, 5, 8))
        padding = torch.tensor([[False] * 4 + [True], [False] * 5])
        if options.get("batch_first"):
            mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=DOUBLE) != 0
            assert_sound(lambda x: encoder(x, mask=mask, src_key_padding_mask=padding)[:1, :4], ball(2, 5, 8))


@pytest.mark.parametrize("kdim", [None, 6])
def test_attention_between_a_probe_and_an_image(kdim: int | None) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, kdim=kdim, vdim=kdim, batch_first=True, dtype=DOUBLE).eval()
    probe = torch.rand(2, 3, 8, dtype=DOUBLE)
    with torch.no_grad():
        for part, average in ((0, True), (1, True), (1, False)):
            assert_sound(
                lambda x, part=part, average=average: layer(probe, x, x, average_attn_weights=average)[part],
                ball(2, 5, kdim or 8),
            )
        if kdim is None:
            assert_sound(lambda x: layer(x, x, x, need_weights=False)[0], ball(5, 8))
    for made in ({"add_bias_kv": True}, {"add_zero_attn": True}):
        odd = nn.MultiheadAttention(8, 2, **made, dtype=DOUBLE).eval()
        with pytest.raises(UnsupportedOperation, match="multi-head attention with"):
            odd(*[ball(2, 5, 8)] * 3)


def test_attention_never_leaves_the_range_of_its_values() -> None:
    x = ball(1, 5, 4, eps=0.5)
    bounds = F.scaled_dot_product_attention(x * 30, x * 30, x)
    assert (bounds.lower >= x.lower.amin(-2, keepdim=True) - 1e-12).all()
    assert (bounds.upper <= x.upper.amax(-2, keepdim=True) + 1e-12).all()


def stepwise(x: Any) -> Any:
    x = x.clone()
    for channel in range(3):
        x[:, channel] = (x[:, channel] - 0.1 * channel) / (1 + channel)
    x[:, 0] = x[:, 0] + x[:, 1]
    x.clamp_(min=0.05).mul_(2)
    rows = torch.stack([row.sum(0) for row in x], axis=0)
    rows.add_(np.float64(0.5) * x[:, 2])
    return np.float32(2) * rows.mT - rows.mT**2


def test_idioms_of_tensors() -> None:
    bounds = assert_sound(stepwise, ball(2, 3, 4, 4))
    assert bounds.radius.max() < 0.1


def test_who_kept_a_tensor_keeps_what_it_was() -> None:
    torch.manual_seed(0)
    last = nn.Linear(4, 3, dtype=DOUBLE).requires_grad_(False)

    def function(x: Any) -> Any:
        hidden = x * 2.0
        logits = last(hidden)
        before = hidden + 0.0
        hidden[:, 0] = 100.0
        return logits + last(hidden) - last(before)

    assert_sound(function, ball(2, 4))

    box = ball(2, 4)
    hidden = box * 2.0
    logits = last(hidden)
    expected = margins(logits, torch.tensor([0, 1]))
    hidden[:, 0] = 100.0
    assert torch.equal(margins(logits, torch.tensor([0, 1])), expected), "the merged last layer takes what it was"
    view = hidden[:, :2]
    hidden *= 2.0
    with pytest.raises(UnsupportedOperation, match="after an in-place operation"):
        view + 1.0


@pytest.mark.parametrize(
    "layer", [nn.ReLU, nn.Hardtanh, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.Mish, nn.SiLU, nn.LeakyReLU]
)
def test_modules_that_work_in_place_leave_the_clean_tensor(layer: Callable[..., nn.Module]) -> None:
    x = ball(2, 6) - 0.5
    before = x.clean.clone()
    found = layer(inplace=True)(x)
    assert torch.equal(x.clean, before)
    assert torch.equal(found.clean, layer()(before))


def test_functions_of_einops() -> None:
    patches = Rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=2, q=2)

    class Patches(nn.Module):
        def forward(self, x: Any) -> Any:
            tokens = patches(x)
            queries, keys = einops.rearrange(torch.cat([tokens, 0.5 * tokens], -1), "b n (k d) -> k b n d", k=2)
            scores = einops.einsum(queries, keys, "b i d, b j d -> b i j").softmax(-1)
            mixed = torch.einsum("bij,bjd->bid", scores, tokens)
            return einops.reduce(mixed, "b n d -> b d", "mean") + einops.repeat(mixed[:, 0, 0], "b -> b d", d=12)

    model = Patches()
    assert_sound(lambda x: propagate(model, x) if isinstance(x, Interval) else model(x), ball(2, 3, 4, 4))


class Casts(nn.Module):
    """As attention of transformers' eager code, whose softmax is in float32."""

    def forward(self, x: Any) -> Any:
        scores = F.softmax(x.float() @ x.float().mT, dim=-1, dtype=torch.float32).to(x.dtype)
        return (scores @ x).sum((1,), dtype=torch.float32)


def test_casts_to_float32_round_nothing() -> None:
    model, box = Casts(), ball(2, 5, 4)
    bounds = propagate(model, box)
    assert bounds.dtype == DOUBLE
    with exactly():
        value = model(box.clean)
    assert (bounds.lower <= value).all()
    assert (value <= bounds.upper).all()
    assert torch.equal(bounds.clean, value)
    with pytest.raises(UnsupportedOperation, match="loses precision"):
        F.softmax(box, -1, dtype=torch.bfloat16)


class Uses(nn.Module):
    """A module `inner` that does one thing to pixels."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.forward = lambda x: self._use(self.inner, x)  # type: ignore[method-assign]
        self.function = function

    @staticmethod
    def _use(self: nn.Module, x: Any) -> Any:
        return self.function(x)

    def forward(self, x: Any) -> Any:
        self.inner.function = self.function
        return self.inner(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: F.embedding(x, torch.rand(3, 2)), "F.embedding: bounds are about pixels"),
        (lambda x: torch.argmax(x, 1), "torch.argmax: it is not continuous"),
        (lambda x: x.round(), "Tensor.round: it is not continuous"),
        (lambda x: torch.rand_like(x) * x, "rand_like: it is random"),
        (lambda x: x.item(), "Tensor.item: it takes a number out of"),
        (lambda x: torch.logcumsumexp(x, 1), "torch.logcumsumexp; the nearest that has one is .*logsumexp"),
        (lambda x: x > 0.5, "torch.gt: what depends on comparing"),
        (lambda x: nn.LSTM(4, 2, dtype=DOUBLE)(x)[0], "lstm: replace it by layers without recurrence"),
        (lambda x: torch.fft.fft(x), "fft: write the transform as a matrix product"),
    ],
)
def test_refusals_name_operation_module_and_a_way_out(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(
        UnsupportedOperation, match=f"no rule bounds the operation .*{message}.*used by module 'inner'"
    ):
        propagate(Uses(function), ball(2, 4))
