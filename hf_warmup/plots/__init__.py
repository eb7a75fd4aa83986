"""A study's pictures: how they look (`style`), what they show (`figures`), and their files (`files`)."""

from hf_warmup.plots.figures import (
    differences,
    learning_curves,
    learning_rate_curves,
    learning_rate_sensitivity,
    update_magnitudes,
)
from hf_warmup.plots.files import Picture, pictures, save_plots
from hf_warmup.plots.style import STYLE, arm_styles


__all__ = [
    "STYLE",
    "Picture",
    "arm_styles",
    "differences",
    "learning_curves",
    "learning_rate_curves",
    "learning_rate_sensitivity",
    "pictures",
    "save_plots",
    "update_magnitudes",
]
