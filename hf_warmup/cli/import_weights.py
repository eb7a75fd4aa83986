"""`hf-warmup import` turns somebody else's file into a checkpoint folder, and says what it recognized."""

import math
from pathlib import Path
from typing import Annotated

import typer

from hf_warmup.cli.arguments import writable
from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.errors import ConfigError


BATCH_NORM = {"full": "after every hidden layer", "conv": "after the convolutions", "none": "nowhere"}


def import_and_report(
    file: Path,
    *,
    layout: str,
    out: Path,
    dataset: str | None,
    image_size: int | None,
    image_mean: str | None,
    image_std: str | None,
    as_json: bool = False,
) -> None:
    """Import a file; print what it was recognized as and how to certify it.

    Args:
        file, layout, out, dataset, image_size: as in `import_weights`.
        image_mean, image_std: numbers separated by commas.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: as `import_weights`, and for texts that are not numbers.
    """
    from hf_warmup.cli.quiet import quiet_libraries
    from hf_warmup.hub.importers import DATASETS, import_weights
    from hf_warmup.models import CertifiedConfig

    quiet_libraries()
    mean, std = _numbers("--image-mean", image_mean), _numbers("--image-std", image_std)
    import_weights(file, layout, out, dataset=dataset, image_size=image_size, image_mean=mean, image_std=std)
    config = CertifiedConfig.from_pretrained(out)
    size = f"{config.image_size} x {config.image_size}"
    source = "from the file" if layout == "ctbench" else "as stated" if mean else f"of {layout}'s loader for {dataset}"
    images = DATASETS[dataset].certify_arguments if dataset else "DATA --eps EPS"
    if as_json:
        keys = ("image_size", "num_channels", "num_labels", "conv5_stride", "batch_norm", "image_mean", "image_std")
        found = {key: getattr(config, key) for key in keys}
        print_json({"folder": out, **found, "certify_arguments": images})
        return
    console_for(as_json).print(
        f"{file}: a CNN-7 for images of {config.num_channels} x {size} and {config.num_labels} classes,\n"
        f"  stride of the fifth convolution {config.conv5_stride}, batch normalization "
        f"{BATCH_NORM[config.batch_norm]} (its epsilon, not in such files, is taken to be 1e-5),\n"
        f"  mean {_listed(config.image_mean)} and deviation {_listed(config.image_std)} {source}.\n"
        f"Written to {out}. Nothing is proven of it yet; on images of {size} pixels:\n"
        f"  hf-warmup certify {out} {images}"
    )


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


def import_command(
    file: Annotated[Path, typer.Argument(help="Weights of a certified CNN-7: .safetensors, or a torch state dict.")],
    layout: Annotated[str, typer.Option(help="fast-certified, ctbench or ctrain.")],
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder for the checkpoint. It must be empty or not exist.")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="mnist, cifar10 or tinyimagenet. It gives the image size and the normalization.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Height and width in pixels, where --dataset does not give them.")
    ] = None,
    image_mean: Annotated[str | None, typer.Option(help="Mean of each channel, separated by commas.")] = None,
    image_std: Annotated[
        str | None, typer.Option(help="Standard deviation of each channel, separated by commas.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rewrite other people's certified CNN-7 weights as a checkpoint that certify takes."""
    import_and_report(
        file,
        layout=layout,
        out=out,
        dataset=dataset,
        image_size=image_size,
        image_mean=image_mean,
        image_std=image_std,
        as_json=as_json,
    )
