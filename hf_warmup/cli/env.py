"""`hf-warmup env` lists what a bug report needs."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from hf_warmup.cli.output import AsJson, print_json


_PACKAGES = (
    *("hf-warmup", "torch", "transformers", "accelerate", "datasets", "evaluate", "huggingface-hub", "safetensors"),
    *("numpy", "scipy", "peft", "trl", "deepspeed", "ray", "onnxruntime"),
)


def environment() -> dict[str, str]:
    """Versions, devices and registered names, in the order in which they are printed."""
    import torch

    from hf_warmup.lr_scheduler.registration import registered_schedulers
    from hf_warmup.records.provenance import commit, hardware

    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    names = registered_schedulers()
    return found | {
        "commit": commit() or "not known",
        "computes on": hardware(),
        "cuda devices": ", ".join(devices) or "none",
        "mps": "yes" if torch.backends.mps.is_available() else "no",
        "threads": str(torch.get_num_threads()),
        "registered schedules": f"{len(names)}: {', '.join(names[:5])}, ...",
    }


def env(as_json: AsJson = False) -> None:
    """Print versions, devices and what is registered, for a bug report."""
    found = environment()
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        print(f"{key:<22}{value}")
