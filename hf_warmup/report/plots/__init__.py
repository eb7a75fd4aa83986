"""Pictures: how they look (`style`), what they show (`figures`, `certified`, `smoothness`), their files (`files`)."""

from hf_warmup.report.plots.certified import proven_shares, radius_curve
from hf_warmup.report.plots.figures import (
    differences,
    learning_curves,
    learning_rate_curves,
    learning_rate_sensitivity,
    update_magnitudes,
)
from hf_warmup.report.plots.files import Picture, certified_pictures, looks, pictures, save_figure, save_pictures
from hf_warmup.report.plots.smoothness import smoothness_figure
from hf_warmup.report.plots.style import STYLE, arm_styles


__all__ = [
    "STYLE",
    "Picture",
    "arm_styles",
    "certified_pictures",
    "differences",
    "learning_curves",
    "learning_rate_curves",
    "learning_rate_sensitivity",
    "looks",
    "pictures",
    "proven_shares",
    "radius_curve",
    "save_figure",
    "save_pictures",
    "smoothness_figure",
    "update_magnitudes",
]
