"""From somebody else's file to a checkpoint folder, and what `hf-warmup import` prints of it."""

import math
from pathlib import Path

import transformers
from rich.console import Console

from hf_warmup.errors import ConfigError
from hf_warmup.hub.importers.recognition import DATASETS, LAYOUTS, LOADERS, fill_, recognize
from hf_warmup.hub.importers.state_dicts import Numbers, read_layers, split_normalization
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.studies.certification.run import save_model


BATCH_NORM = {"full": "after every hidden layer", "conv": "after the convolutions", "none": "nowhere"}


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


def import_and_report(
    file: Path,
    *,
    layout: str,
    out: Path,
    dataset: str | None,
    image_size: int | None,
    image_mean: str | None,
    image_std: str | None,
) -> None:
    """Import a file; print what it was recognized as and how to certify it.

    Args:
        file, layout, out, dataset, image_size: as in `import_weights`.
        image_mean, image_std: numbers separated by commas.

    Raises:
        ConfigError: as `import_weights`, and for texts that are no numbers.
    """
    transformers.utils.logging.disable_progress_bar()
    mean, std = _numbers("--image-mean", image_mean), _numbers("--image-std", image_std)
    import_weights(file, layout, out, dataset=dataset, image_size=image_size, image_mean=mean, image_std=std)
    config = CertifiedConfig.from_pretrained(out)
    size = f"{config.image_size} x {config.image_size}"
    source = "from the file" if layout == "ctbench" else "as stated" if mean else f"of {layout}'s loader for {dataset}"
    images = DATASETS[dataset].certify_arguments if dataset else "DATA --eps EPS"
    Console(highlight=False, soft_wrap=True).print(
        f"{file}: a CNN-7 for images of {config.num_channels} x {size} and {config.num_labels} classes,\n"
        f"  stride of the fifth convolution {config.conv5_stride}, batch normalization "
        f"{BATCH_NORM[config.batch_norm]} (its epsilon, not in such files, is taken to be 1e-5),\n"
        f"  mean {_listed(config.image_mean)} and deviation {_listed(config.image_std)} {source}.\n"
        f"Written to {out}. Nothing is proven of it yet; on images of {size} pixels:\n"
        f"  hf-warmup certify {out} {images}"
    )


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


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{option} takes numbers separated by commas, such as 0.4914,0.4822,0.4465; got {text!r}.")
    return numbers


def _listed(numbers: list[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
