"""Which image classifiers are bounded: every class of transformers, and one model of each family of timm.

`python tests/scripts/bounds_coverage.py` prints the table of hf_warmup/bounds/README.md. timm is needed here alone; a
model is built without its published weights, at 64 x 64 pixels where it takes that, and checked as in
tests/bounds/test_image_classifiers.py: random points, corners and PGD stay within its bounds.
"""

import signal
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import nn


sys.path.insert(0, str(Path(__file__).parents[1] / "bounds"))

from image_classifiers import built, classes, enliven  # noqa: E402
from test_image_classifiers import check  # noqa: E402

from hf_warmup.bounds import UnsupportedOperation  # noqa: E402


# The smallest model of each file of timm.models, 1.0.
FAMILIES = {
    "beit": "beit_base_patch16_224",
    "byoanet": "eca_botnext26ts_256",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla60x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformer_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_siglip",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_004_tv",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2net50_14w_8s",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
# No attempt is made at models of more parameters than this, nor for longer.
MOST_PARAMETERS, SECONDS = 150e6, 300


def timm_model(name: str) -> tuple[nn.Module, int]:
    """A model of timm with lively weights, in float64, and the side of an image that it takes."""
    import timm

    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"not tried: {size / 1e6:.0f} million parameters")
    for options, sides in (({"img_size": 64}, (64,)), ({"img_size": 128}, (128,)), ({}, (64, 96, 128, 224, 240, 256))):
        for side in sides:
            try:
                model = timm.create_model(name, num_classes=3, **options).double().eval()
                model(torch.rand(1, 3, side, side, dtype=torch.float64))
            except Exception:
                continue
            enliven(model)
            return model, side
    raise ValueError("not built without its own image size")


def row(name: str, build: object, radius: float, **effort: int) -> bool:
    """Print one line of the table; whether the model is bounded and nothing left its bounds."""
    signal.alarm(SECONDS)
    start, good = time.perf_counter(), False
    try:
        model, side = build()  # type: ignore[operator]
        width, excess = check(model, side, radius, **effort)
        good = width < float("inf") and excess <= 1e-6
        verdict = "yes" if good else f"width {width:.1e}, left by {excess:.1e} of it"
    except UnsupportedOperation as error:
        verdict = str(error).split(", used by")[0]
    except (ValueError, RuntimeError, TimeoutError) as error:
        verdict = f"{error}"
    signal.alarm(0)
    print(f"| {name} | {verdict} | {time.perf_counter() - start:.0f} |", flush=True)
    return good


def main() -> None:
    """Print the table."""

    def late(*args: object) -> None:
        raise TimeoutError(f"not bounded within {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    warnings.simplefilter("ignore")
    chosen = sys.argv[1:]
    for title, names in (("transformers", classes()), ("timm", FAMILIES)):
        print(f"| {title} | bounded | seconds |\n| --- | --- | --: |")
        names = [name for name in names if not chosen or name in chosen]
        if title == "timm":
            good = [
                row(f"{name}: {FAMILIES[name]}", lambda n=name: timm_model(FAMILIES[n]), 1e-7, samples=2, steps=3)
                for name in names
            ]
        else:
            good = [row(name, lambda n=name: built(n), 1e-7) for name in names]
        print(f"\n{sum(good)} of {len(good)}\n", flush=True)


if __name__ == "__main__":
    main()
