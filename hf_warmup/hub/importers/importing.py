"""Turns somebody else's file into a checkpoint folder."""

from pathlib import Path

from hf_warmup.errors import ConfigError
from hf_warmup.hub.importers.recognition import DATASETS, LAYOUTS, LOADERS, fill_, recognize
from hf_warmup.hub.importers.state_dicts import Numbers, read_layers, split_normalization
from hf_warmup.models import CertifiedForImageClassification
from hf_warmup.studies.certification.model import save_model


def import_weights(
    file: Path,
    layout: str,
    out: Path,
    *,
    dataset: str | None = None,
    image_size: int | None = None,
    image_mean: list[float] | None = None,
    image_std: list[float] | None = None,
) -> Path:
    """Rewrite a state dict as a folder with safetensors weights, config and image processor; returns `out`.

    The model in it computes, from pixels in [0, 1], what the file's network computes behind its normalization. Half
    precision becomes float32 exactly, float64 is rounded to it. Batch normalization's epsilon cannot be seen in a
    state dict: 1e-5 is assumed.

    Args:
        file: .safetensors, or a state dict or checkpoint of `torch.save` that can be loaded without running code.
        layout: one of `LAYOUTS`.
        out: a folder that does not exist or is empty.
        dataset: one of `DATASETS`; gives what is not stated below.
        image_size: height and width in pixels.
        image_mean, image_std: by which the network's inputs were normalized, per channel; not for "ctbench".

    Raises:
        ConfigError: if the file is not exactly a CNN-7 of this layout, would need code to be loaded, or leaves open
            how images are normalized; nothing is written then.
    """
    _check_request(layout, dataset, out, image_mean, image_std)
    layers = read_layers(file)
    if layout == "ctbench":
        layers, mean, std = split_normalization(layers, file)
    else:
        mean, std = _stated_normalization(layout, dataset, image_mean, image_std)
    config = recognize(layers, file, dataset=dataset, image_size=image_size, mean=mean, std=std)
    model = CertifiedForImageClassification(config).eval()
    fill_(model, layers, file)
    save_model(model, out)
    return out


def _check_request(
    layout: str, dataset: str | None, out: Path, mean: list[float] | None, std: list[float] | None
) -> None:
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout must be one of {', '.join(LAYOUTS)}; got {layout!r}.")
    if dataset is not None and dataset not in DATASETS:
        raise ConfigError(f"--dataset must be one of {', '.join(DATASETS)}; got {dataset!r}.")
    if (mean is None) != (std is None):
        raise ConfigError("--image-mean and --image-std belong together: state both or neither.")
    if layout == "ctbench" and mean is not None:
        raise ConfigError(
            "files of the layout ctbench hold their own mean and sigma: leave --image-mean and -std out."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists and is not an empty folder; name another one.")


def _stated_normalization(
    layout: str, dataset: str | None, mean: list[float] | None, std: list[float] | None
) -> tuple[Numbers, Numbers]:
    if mean is not None and std is not None:
        return tuple(mean), tuple(std)
    if dataset is None:
        raise ConfigError(
            f"files of the layout {layout} do not say how images were normalized: state --image-mean and --image-std "
            "(0 and 1 for pixels as they are), or --dataset for the numbers of the layout's loader."
        )
    return LOADERS[layout][dataset]
