"""A classifier as ONNX and its images as VNN-LIB, for alpha-beta-CROWN and other tools of VNN-COMP."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_warmup.bounds.propagation import logits_in
from hf_warmup.certified.blocks import Progress
from hf_warmup.certified.vnnlib import file_name, property_of
from hf_warmup.data.images import Images
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, write_bytes, write_json


# Of logits, what onnxruntime may differ by from torch.
_TOLERANCE = 1e-5


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        output = self.model(pixel_values)
        logits: Tensor = logits_in(output)
        return logits


def export(
    model: nn.Module,
    images: Images,
    chosen: Sequence[int],
    eps: str,
    out: Path,
    *,
    timeout: int = 300,
    progress: Progress | None = None,
) -> Record:
    """Write `model.onnx`, one VNN-LIB file an image and `instances.csv`, which lists them with seconds for each.

    Args:
        model: in eval mode, takes pixels in [0, 1].
        images: of which some are exported.
        chosen: their numbers.
        eps: radius as a fraction.
        out: folder, made if it does not exist.
        timeout: seconds that a tool may take for an image.
        progress: see `certify`.

    Returns:
        What was written, also stored as `export.json`.

    Raises:
        ConfigError: without the extra, or if onnxruntime does not compute what the model does.
    """
    if not len(chosen):
        raise ConfigError("there is nothing to export: no image is undecided.")
    batch = images.__getitems__(list(chosen))
    pixels, labels = batch["pixel_values"], batch["labels"].tolist()
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "model.onnx", onnx_bytes(model, pixels[:1]))
    difference = _difference(out / "model.onnx", model, pixels[:64])
    if not difference <= _TOLERANCE:
        raise ConfigError(
            f"onnxruntime's logits differ from the model's by {difference:.2g}; nothing can be exported."
        )
    with torch.no_grad():
        classes = _Logits(model)(pixels[:1]).shape[1]
    lines = []
    for image, pixel, label in zip(chosen, pixels, labels, strict=True):
        name = f"vnnlib/{file_name(image)}"
        (out / "vnnlib").mkdir(exist_ok=True)
        write_bytes(out / name, property_of(pixel, label, classes, eps).encode())
        lines.append(f"model.onnx,{name},{timeout}\n")
        if progress is not None:
            progress("properties", len(lines), len(chosen))
    write_bytes(out / "instances.csv", "".join(lines).encode())
    written = {"eps": eps, "images": list(chosen), "classes": classes, "largest_difference_of_logits": difference}
    write_json(out / "export.json", written)
    return written


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The model for one image at a time, with its weights, as ONNX; raises ConfigError without the extra."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'export needs {error.name}: pip install "hf-warmup[export]"') from None
    with warnings.catch_warnings():
        # The exporter's own, about names that it will drop.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Logits(model).eval(),
            (example,),
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def _difference(path: Path, model: nn.Module, pixels: Tensor) -> float:
    """The largest difference of logits between onnxruntime and torch, relative to logits above 1."""
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError('export needs onnxruntime: pip install "hf-warmup[export]"') from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = torch.cat([_Logits(model)(image[None]) for image in pixels])
    theirs = torch.cat([torch.from_numpy(session.run(None, {"pixel_values": one[None].numpy()})[0]) for one in pixels])
    return float(((ours - theirs).abs() / ours.abs().clamp(min=1)).max())
