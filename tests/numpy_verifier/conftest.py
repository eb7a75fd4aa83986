"""A checkpoint folder with a certificate, which tests copy before they change it."""

from pathlib import Path

import pytest
from chains import SIZES, lively, some_images

from hf_warmup.certified import certified_radius, parse_eps
from hf_warmup.certified.certificate import make_document
from hf_warmup.certified.evaluation import assess
from hf_warmup.data.images import Images
from hf_warmup.models.source import ModelSource
from hf_warmup.records.files import write_json
from hf_warmup.studies.certification.run import save_model


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Images, str]:
    """A checkpoint folder with a certificate for 40 images, some proven and some not, and the images."""
    folder = tmp_path_factory.mktemp("certified")
    model = lively(7, "cnn_small", "full", **SIZES["cnn_small"])
    save_model(model, folder)
    images = some_images(7, model, 40)
    # Some that are wrong, and so cannot be proven.
    images.labels[:4] = (images.labels[:4] + 1) % 4
    batch, eps = images.__getitems__(range(40)), "1/999"
    found = assess(model, images, eps)
    radii = certified_radius(model, batch["pixel_values"], batch["labels"], eps_max=4 * parse_eps(eps))
    document = make_document(ModelSource(folder), "random", "test", eps, images, found, radii)
    write_json(folder / "certificate.json", document)
    assert 5 < int(found.verified.sum()) < 35
    return folder, images, eps
