"""Per rule: the shape of its input, and a call of the operation with everything else filled in."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds import Interval
from hf_warmup.bounds.interval import apply_rule
from hf_warmup.bounds.provenance import parts
from hf_warmup.bounds.rules.spelling import spelled


torch.manual_seed(0)
DOUBLE = {"dtype": torch.float64}
W1, W2 = torch.randn(5, 3, 3, **DOUBLE), torch.randn(4, 3, 3, 3, **DOUBLE)
LINEAR, BIAS = torch.randn(7, 6, **DOUBLE), torch.randn(7, **DOUBLE)
CONSTANT = torch.randn(2, 3, 6, **DOUBLE)
MATRIX = torch.randn(6, 4, **DOUBLE)
MEAN, VARIANCE, GAMMA, BETA = (
    torch.randn(3, **DOUBLE),
    torch.rand(3, **DOUBLE) + 0.1,
    CONSTANT[0, :, 0],
    CONSTANT[0, :, 1],
)
W3 = torch.randn(2, 1, 3, 3, 3, **DOUBLE)
PROJECTIONS = 0.3 * torch.randn(18, 6, **DOUBLE)
# What tests in float32 replace by the same numbers in float32.
CONSTANTS = "W1 W2 W3 LINEAR BIAS CONSTANT MATRIX MEAN VARIANCE GAMMA BETA PROJECTIONS".split()

FLAT, IMAGE, VOLUME = (2, 3, 6), (2, 3, 6, 6), (2, 1, 4, 4, 4)
INDEX, CHOSEN = torch.tensor([2, 0]), torch.tensor([[[0, 5], [1, 1], [3, 2]]] * 2)
MASK = torch.tensor([True, False, True, True, False, True])
Call = Callable[[Any], Any]
Case = tuple[tuple[int, ...], Call | None]


def positive(x: Any) -> Any:
    return x * x + 0.1


def heads(x: Any, **options: Any) -> Any:
    """An attention of two heads over 3 places of 2 images, with every mask."""
    padding = torch.tensor([[False, False, True], [False, False, False]])
    values = (x.transpose(0, 1),) * 3
    last = LINEAR[:6], BIAS[:6]
    fixed = (6, 2, PROJECTIONS, PROJECTIONS[:, 0], None, None, False, 0.0, *last, False)
    mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
    result, shares = F.multi_head_attention_forward(*values, *fixed, padding, attn_mask=mask, **options)
    return torch.cat([result.transpose(0, 1), shares], -1)


def assigned(x: Any) -> Any:
    copy = x.clone()
    copy[:, 0] = 2.0
    copy[:, 1, MASK] = x[:, 2, MASK]
    copy.mul_(3)
    return copy + 0.0


# By the operation's name, for every way in which torch spells it.
NAMES: dict[str, tuple[tuple[int, ...], Callable[[Callable[..., Any], Any], Any]]] = {
    "abs": (FLAT, lambda f, x: f(x)),
    "adjoint": (FLAT, lambda f, x: f(x)),
    "add": (FLAT, lambda f, x: f(x, CONSTANT) + f(x, x)),
    "addcdiv": (FLAT, lambda f, x: f(x, x, positive(x), value=0.5)),
    "addcmul": (FLAT, lambda f, x: f(x, x, CONSTANT, value=2)),
    "addmm": (FLAT, lambda f, x: f(x[0, :, :4], x[1], MATRIX, beta=2)),
    "amax": (FLAT, lambda f, x: f(x, (1, 2))),
    "amin": (FLAT, lambda f, x: f(x, 1, keepdim=True)),
    "arctan": (FLAT, lambda f, x: f(x)),
    "asinh": (FLAT, lambda f, x: f(x)),
    "atan": (FLAT, lambda f, x: f(x)),
    "baddbmm": (FLAT, lambda f, x: f(x[..., :3], x, x.mT)),
    "bmm": (FLAT, lambda f, x: f(x, x.transpose(1, 2))),
    "broadcast_to": ((2, 1, 6), lambda f, x: f(x, (2, 3, 6))),
    "chunk": (FLAT, lambda f, x: f(x, 3, 1)[0]),
    "clamp": (FLAT, lambda f, x: f(x, -0.5, 0.5) + f(x, min=0.1)),
    "clamp_max": (FLAT, lambda f, x: f(x, 0.2)),
    "clamp_min": (FLAT, lambda f, x: f(x, -0.2)),
    "clip": (FLAT, lambda f, x: f(x, -0.5, 0.5)),
    "clone": (FLAT, lambda f, x: f(x)),
    "contiguous": (FLAT, lambda f, x: f(x)),
    "cpu": (FLAT, lambda f, x: f(x)),
    "cumsum": (FLAT, lambda f, x: f(x, 1)),
    "detach": (FLAT, lambda f, x: f(x)),
    "diagonal": (FLAT, lambda f, x: f(x, 0, 1, 2)),
    "div": (FLAT, lambda f, x: f(x, CONSTANT) + f(x, positive(x))),
    "divide": (FLAT, lambda f, x: f(x, -3.0)),
    "double": (FLAT, lambda f, x: f(x)),
    "element_size": (FLAT, lambda f, x: x + 0 * f(x)),
    "erf": (FLAT, lambda f, x: f(x)),
    "exp": (FLAT, lambda f, x: f(x)),
    "exp2": (FLAT, lambda f, x: f(x)),
    "expand": ((2, 1, 6), lambda f, x: f(x, 2, 3, -1)),
    "expand_as": ((2, 1, 6), lambda f, x: f(x, CONSTANT) + f(CONSTANT, x.expand(2, 3, 6))),
    "expm1": (FLAT, lambda f, x: f(x)),
    "flatten": (IMAGE, lambda f, x: f(x, 1)),
    "flip": (FLAT, lambda f, x: f(x, (1,))),
    "fliplr": (FLAT, lambda f, x: f(x)),
    "flipud": (FLAT, lambda f, x: f(x)),
    "float": (FLAT, lambda f, x: f(x)),
    "full_like": (FLAT, lambda f, x: x + f(x, 2.0)),
    "gather": (FLAT, lambda f, x: f(x, 2, CHOSEN)),
    "get_device": (FLAT, lambda f, x: x * f(x)),
    "index_select": (FLAT, lambda f, x: f(x, 1, INDEX)),
    "is_complex": (FLAT, lambda f, x: x + f(x)),
    "is_contiguous": (FLAT, lambda f, x: x + f(x)),
    "is_floating_point": (FLAT, lambda f, x: x + f(x)),
    "lerp": (FLAT, lambda f, x: f(x, CONSTANT, 0.3) + f(x, x * 2, 0.6)),
    "log": (FLAT, lambda f, x: f(positive(x))),
    "log10": (FLAT, lambda f, x: f(positive(x))),
    "log1p": (FLAT, lambda f, x: f(positive(x) - 1)),
    "log2": (FLAT, lambda f, x: f(positive(x))),
    "log_softmax": (FLAT, lambda f, x: f(x, -1)),
    "logsumexp": (FLAT, lambda f, x: f(x, (1, 2))),
    "masked_fill": (FLAT, lambda f, x: f(x, MASK, 3.0)),
    "masked_select": (FLAT, lambda f, x: f(x, MASK)),
    "matmul": (FLAT, lambda f, x: torch.cat([f(x, MATRIX), f(x, x.transpose(1, 2))], -1)),
    "max": (FLAT, lambda f, x: f(x, 1)[0] + f(x, 2, keepdim=True).values[:, :1, 0] + f(x) + f(x, x.flip(2)).mean(1)),
    "maximum": (FLAT, lambda f, x: f(x, x.flip(1)) + f(x, CONSTANT)),
    "mean": (FLAT, lambda f, x: f(x, [1, 2])),
    "min": (FLAT, lambda f, x: f(x, 1)[0] + f(x, 2, keepdim=True).values[:, :1, 0] + f(x) + f(x, x.flip(2)).mean(1)),
    "minimum": (FLAT, lambda f, x: f(x, x.flip(1)) + f(x, CONSTANT)),
    "mm": (FLAT, lambda f, x: f(x[0], x[1].T)),
    "moveaxis": (FLAT, lambda f, x: f(x, 1, 2)),
    "movedim": (FLAT, lambda f, x: f(x, 1, 2)),
    "mul": (FLAT, lambda f, x: f(x, CONSTANT) + f(x, x) + f(x, x.flip(2))),
    "multiply": (FLAT, lambda f, x: f(x, -0.5)),
    "mv": (FLAT, lambda f, x: f(x[0], x[0, 1])),
    "narrow": (FLAT, lambda f, x: f(x, 2, 1, 3)),
    "neg": (FLAT, lambda f, x: f(x)),
    "negative": (FLAT, lambda f, x: f(x)),
    "new_full": (FLAT, lambda f, x: x + f(x, (6,), 2.0)),
    "new_ones": (FLAT, lambda f, x: x + f(x, 6)),
    "new_tensor": (FLAT, lambda f, x: x + f(x, 1.5)),
    "new_zeros": (FLAT, lambda f, x: x + f(x, 6)),
    "norm": (FLAT, lambda f, x: f(x, dim=2) + f(x, 1, 1, True).mean(2) + f(x)),
    "ones_like": (FLAT, lambda f, x: x * f(x)),
    "permute": (FLAT, lambda f, x: f(x, (2, 0, 1))),
    "pow": (FLAT, lambda f, x: f(x, 2) + f(x, 3) + f(x, 4.0) + f(positive(x), 0.7) + f(positive(x), -2) + f(x, 0)),
    "ravel": (FLAT, lambda f, x: f(x)),
    "reciprocal": (FLAT, lambda f, x: f(positive(x))),
    "relu": (FLAT, lambda f, x: f(x)),
    "repeat": (FLAT, lambda f, x: f(x, 1, 2, 1)),
    "repeat_interleave": (FLAT, lambda f, x: f(x, 2, 1)),
    "reshape": (FLAT, lambda f, x: f(x, (2, -1))),
    "reshape_as": ((2, 18), lambda f, x: f(x, CONSTANT) * f(CONSTANT, x.reshape(2, 3, 6))),
    "roll": (FLAT, lambda f, x: f(x, 1, 1)),
    "rot90": (FLAT, lambda f, x: f(x, 1, (1, 2))),
    "rsqrt": (FLAT, lambda f, x: f(positive(x))),
    "select": (FLAT, lambda f, x: f(x, 1, 2)),
    "sigmoid": (FLAT, lambda f, x: f(x)),
    "sinh": (FLAT, lambda f, x: f(x)),
    "softmax": (FLAT, lambda f, x: f(x, 1) + f(x, -1, dtype=x.dtype)),
    "sort": (FLAT, lambda f, x: f(x, 1)[0]),
    "split": (FLAT, lambda f, x: f(x, [2, 4], -1)[1]),
    "sqrt": (FLAT, lambda f, x: f(positive(x))),
    "square": (FLAT, lambda f, x: f(x)),
    "squeeze": ((2, 1, 6), lambda f, x: f(x, 1)),
    "stride": (FLAT, lambda f, x: x * f(x)[1]),
    "sub": (FLAT, lambda f, x: f(x, CONSTANT) + f(x, x)),
    "subtract": (FLAT, lambda f, x: f(x, 0.5)),
    "sum": (FLAT, lambda f, x: f(x, (1, 2)) + f(x, 0).sum()),
    "swapaxes": (FLAT, lambda f, x: f(x, 1, 2)),
    "swapdims": (FLAT, lambda f, x: f(x, 1, 2)),
    "t": (FLAT, lambda f, x: f(x[0])),
    "take_along_dim": (FLAT, lambda f, x: f(x, CHOSEN, 2)),
    "tanh": (FLAT, lambda f, x: f(x)),
    "tensor_split": (FLAT, lambda f, x: f(x, 2, 2)[1]),
    "tile": (FLAT, lambda f, x: f(x, (1, 2))),
    "to": (FLAT, lambda f, x: f(x, x.dtype) + f(CONSTANT, x)),
    "topk": (FLAT, lambda f, x: f(x, 2, 2).values),
    "transpose": (FLAT, lambda f, x: f(x, 0, 2)),
    "tril": (FLAT, lambda f, x: f(x)),
    "triu": (FLAT, lambda f, x: f(x, 1)),
    "true_divide": (FLAT, lambda f, x: f(x, 2)),
    "type": (FLAT, lambda f, x: f(x, x.dtype)),
    "type_as": (FLAT, lambda f, x: f(x, CONSTANT) + f(CONSTANT, x)),
    "unbind": (FLAT, lambda f, x: f(x, 1)[1]),
    "unflatten": (FLAT, lambda f, x: f(x, 2, (2, 3))),
    "unfold": (FLAT, lambda f, x: f(x, 2, 3, 2)),
    "unsqueeze": (FLAT, lambda f, x: f(x, -1)),
    "var": (FLAT, lambda f, x: f(x, 2) + f(x, 1, correction=0).mean(1, keepdim=True)),
    "view": (FLAT, lambda f, x: f(x, 6, -1)),
    "view_as": ((2, 18), lambda f, x: f(x, CONSTANT)),
    "zeros_like": (FLAT, lambda f, x: x + f(x)),
}


def dispatched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The operation, as it is called of an interval: a method's descriptor itself takes tensors alone."""

    def call(*args: Any, **kwargs: Any) -> Any:
        bounded = any(isinstance(part, Interval) for part in parts((*args, *kwargs.values())))
        return apply_rule(function, args, kwargs) if bounded else function(*args, **kwargs)

    return call


CASES: dict[Callable[..., Any], Case] = {
    function: (shape, partial(call, dispatched(function)))
    for name, (shape, call) in NAMES.items()
    for function in spelled(name)
}
CASES |= {
    Tensor.cuda: (FLAT, None),  # needs a GPU
    Tensor.__add__: (FLAT, lambda x: CONSTANT + x),
    Tensor.__radd__: (FLAT, lambda x: 1.5 + x),
    Tensor.__sub__: (FLAT, lambda x: CONSTANT - x),
    Tensor.__rsub__: (FLAT, lambda x: 2.0 - x),
    Tensor.__mul__: (FLAT, lambda x: CONSTANT * x),
    Tensor.__rmul__: (FLAT, lambda x: -0.5 * x),
    Tensor.__truediv__: (FLAT, lambda x: x / 7),
    Tensor.__matmul__: (FLAT, lambda x: MATRIX.T @ x.transpose(1, 2)),
    Tensor.__pow__: (FLAT, lambda x: x**2 + 2**x + 0.5**x + positive(x) ** -0.5),
    Tensor.__getitem__: (FLAT, lambda x: torch.cat([x[:, 0, 1:4], x[:, INDEX, 1], x[..., -1, MASK], x.mT[..., 1]], 1)),
    Tensor.__setitem__: (FLAT, assigned),
    F.linear: (FLAT, lambda x: F.linear(x, LINEAR, BIAS)),
    F.conv1d: (FLAT, lambda x: F.conv1d(x, W1, BIAS[:5], padding=1, stride=2)),
    torch.conv1d: (FLAT, lambda x: torch.conv1d(x, W1)),
    F.conv2d: (IMAGE, lambda x: F.conv2d(x, W2, BIAS[:4], stride=2, padding=1)),
    torch.conv2d: (IMAGE, lambda x: torch.conv2d(x, W2[:3, :1], None, 1, 0, 1, 3)),
    torch.conv3d: (VOLUME, lambda x: F.conv3d(x, W3, BIAS[:2], padding=1)),
    F.conv_transpose1d: (FLAT, lambda x: F.conv_transpose1d(x, W1[:3], BIAS[:3], 2, 1, 1)),
    F.conv_transpose2d: (IMAGE, lambda x: F.conv_transpose2d(x, W2[:3, :1], BIAS[:3], 2, groups=3, dilation=2)),
    F.conv_transpose3d: (VOLUME, lambda x: F.conv_transpose3d(x, W3[:1])),
    F.batch_norm: (IMAGE, lambda x: F.batch_norm(x, MEAN, VARIANCE, GAMMA, BETA)),
    torch.einsum: (
        FLAT,
        lambda x: (
            torch.einsum("b...d,de->b...e", x, MATRIX).sum(2, keepdim=True)
            + torch.einsum("bid, bjd -> bij", x, x.flip(1))
            + torch.einsum("...id->...i", x)[..., None]
        ),
    ),
    F.glu: (FLAT, lambda x: F.glu(x, -1)),
    # over several elements
    F.avg_pool1d: (FLAT, lambda x: F.avg_pool1d(x, 2)),
    F.avg_pool2d: (IMAGE, lambda x: F.avg_pool2d(x, 3, 2, 1)),
    F.avg_pool3d: (VOLUME, lambda x: F.avg_pool3d(x, 2)),
    F.adaptive_avg_pool1d: (FLAT, lambda x: F.adaptive_avg_pool1d(x, 4)),
    F.adaptive_avg_pool2d: (IMAGE, lambda x: F.adaptive_avg_pool2d(x, (1, 1))),
    F.adaptive_avg_pool3d: (VOLUME, lambda x: F.adaptive_avg_pool3d(x, 3)),
    F.max_pool1d: (FLAT, lambda x: F.max_pool1d(x, 2)),
    F.max_pool2d: (IMAGE, lambda x: F.max_pool2d(x, 3, 2, 1)),
    F.max_pool3d: (VOLUME, lambda x: F.max_pool3d(x, 2)),
    F.adaptive_max_pool1d: (FLAT, lambda x: F.adaptive_max_pool1d(x, 4)),
    F.adaptive_max_pool2d: (IMAGE, lambda x: F.adaptive_max_pool2d(x, 2)),
    F.adaptive_max_pool3d: (VOLUME, lambda x: F.adaptive_max_pool3d(x, 2)),
    torch.linalg.vector_norm: (FLAT, lambda x: torch.linalg.vector_norm(x, float("inf"), (1, 2))),
    torch.linalg.norm: (FLAT, lambda x: torch.linalg.norm(x, dim=2) + torch.linalg.norm(x, 3, dim=1).mean()),
    torch.var_mean: (FLAT, lambda x: torch.stack(torch.var_mean(x, 2))),
    F.layer_norm: (FLAT, lambda x: F.layer_norm(x, (6,), LINEAR[0], LINEAR[1])),
    F.group_norm: (IMAGE, lambda x: F.group_norm(x.repeat(1, 2, 1, 1)[:, :4], 2, BIAS[:4], BIAS[:4])),
    F.instance_norm: (IMAGE, lambda x: F.instance_norm(x, weight=GAMMA, bias=BETA)),
    F.rms_norm: (FLAT, lambda x: F.rms_norm(x, (6,), LINEAR[0], 1e-5)),
    torch.rms_norm: (FLAT, lambda x: torch.rms_norm(x, (3, 6), None, 1e-3)),
    F.normalize: (FLAT, lambda x: F.normalize(x, dim=-1) + F.normalize(x, p=1.0, dim=1, eps=0.1)),
    F.softmax: (FLAT, lambda x: F.softmax(x, -1)),
    F.softmin: (FLAT, lambda x: F.softmin(x, -1)),
    F.log_softmax: (FLAT, lambda x: F.log_softmax(x, -1)),
    F.scaled_dot_product_attention: (
        FLAT,
        lambda x: (
            F.scaled_dot_product_attention(x, x * 2, x - 1)
            + F.scaled_dot_product_attention(CONSTANT, x, x, x[..., :3])
        ),
    ),
    F.multi_head_attention_forward: (FLAT, heads),
    # elementwise
    F.relu: (FLAT, lambda x: F.relu(x, inplace=True)),
    F.leaky_relu: (FLAT, lambda x: F.leaky_relu(x, 0.2) + F.leaky_relu(x, -0.2)),
    F.prelu: (FLAT, lambda x: F.prelu(x, MEAN)),
    F.hardtanh: (FLAT, lambda x: F.hardtanh(x, -0.3, 0.4)),
    F.relu6: (FLAT, lambda x: F.relu6(x * 5)),
    F.hardsigmoid: (FLAT, lambda x: F.hardsigmoid(x * 3)),
    F.threshold: (FLAT, lambda x: F.threshold(x, 0.1, -0.2)),
    F.logsigmoid: (FLAT, F.logsigmoid),
    F.softsign: (FLAT, F.softsign),
    F.tanhshrink: (FLAT, F.tanhshrink),
    F.softshrink: (FLAT, F.softshrink),
    F.hardshrink: (FLAT, F.hardshrink),
    F.elu: (FLAT, lambda x: F.elu(x, 0.7)),
    F.celu: (FLAT, lambda x: F.celu(x, 1.3)),
    F.selu: (FLAT, F.selu),
    F.softplus: (FLAT, lambda x: F.softplus(x) + F.softplus(x, 0.5, 1.0)),
    F.gelu: (FLAT, lambda x: F.gelu(x, approximate="tanh") + F.gelu(x)),
    F.silu: (FLAT, F.silu),
    F.mish: (FLAT, F.mish),
    F.hardswish: (FLAT, lambda x: F.hardswish(x * 2)),
    **{
        f: (FLAT, partial(lambda f, x: f(x, 0.5, training=False), f))
        for f in (F.dropout, F.alpha_dropout, F.dropout1d, F.feature_alpha_dropout)
    },
    F.dropout2d: (IMAGE, lambda x: F.dropout2d(x, 0.5, training=False)),
    F.dropout3d: (VOLUME, lambda x: F.dropout3d(x, 0.5, training=False)),
    # shape
    F.pixel_shuffle: (IMAGE, lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)),
    F.pixel_unshuffle: (IMAGE, lambda x: F.pixel_unshuffle(x, 2)),
    F.channel_shuffle: (IMAGE, lambda x: F.channel_shuffle(x.repeat(1, 2, 1, 1), 2)),
    F.unfold: (IMAGE, lambda x: F.unfold(x, 3, padding=1)),
    F.fold: (IMAGE, lambda x: F.fold(F.unfold(x, 3, padding=1), (6, 6), 3, padding=1)),
    torch.where: (FLAT, lambda x: torch.where(MASK, x, CONSTANT) + torch.where(MASK, 1.0, x)),
    Tensor.where: (FLAT, lambda x: x.where(MASK, x * 2)),
    torch.cat: (FLAT, lambda x: torch.cat([x, CONSTANT, x], 1)),
    torch.concat: (FLAT, lambda x: torch.concat([x, CONSTANT], axis=1)),
    torch.concatenate: (FLAT, lambda x: torch.concatenate([x, x], -1)),
    torch.stack: (FLAT, lambda x: torch.stack([x, CONSTANT], -1) + torch.stack(list(x.unbind()), axis=0)[..., None]),
    torch.hstack: (FLAT, lambda x: torch.hstack([x, CONSTANT])),
    torch.vstack: (FLAT, lambda x: torch.vstack([x, CONSTANT])),
    torch.dstack: (FLAT, lambda x: torch.dstack([x, CONSTANT])),
    F.pad: (IMAGE, lambda x: F.pad(F.pad(x, (1, 2), value=3.0), (1, 1, 1, 1), mode="replicate")),
    F.interpolate: (
        IMAGE,
        lambda x: (
            F.interpolate(x, scale_factor=2, mode="nearest")
            + F.interpolate(x, (12, 12), mode="bilinear")
            + F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=True)
            + F.interpolate(x, 12, mode="bicubic", antialias=True)
            + F.interpolate(F.interpolate(x, 4, mode="area"), 12)
        ),
    ),
}
NAMED = {f"{i}-{getattr(f, '__qualname__', f)}": (f, case) for i, (f, case) in enumerate(CASES.items()) if case[1]}
