"""What would be loaded beside the weights is read too: settings, code, adapters, and JSON of one reading alone."""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forging import problems
from safetensors.torch import load_file, save_file

from hf_warmup.certified.certificate import weights_digest
from hf_warmup.data.images import Images
from hf_warmup.hub.modeling_code import add_modeling_code, modeling_code
from hf_warmup.numpy_verifier.reading import read_object
from hf_warmup.numpy_verifier.weights import settings_sha256
from hf_warmup.records.files import read_json, write_json


def test_other_weights_or_images_are_refused(made: tuple[Path, Images, str], tmp_path: Path) -> None:
    folder, images, _ = made
    certificate = read_json(folder / "certificate.json")
    changed = images.images.numpy().copy()
    changed[39, 0, 0, 0] ^= 1
    assert any("images are not those" in found for found in problems(made, certificate, images=changed))
    assert any("images are not those" in found for found in problems(made, certificate, levels=256))
    state = load_file(folder / "model.safetensors")
    state["network.0.weight"][0, 0, 0, 0] *= 1 + 2**-20
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    save_file(state, tmp_path / "model.safetensors")
    assert any("other weights" in found for found in problems(made, certificate, folder=tmp_path))
    # Hashed anew, as an able forger does: the margins no longer fit.
    certificate["weights_sha256"] = weights_digest(str(tmp_path))
    assert any("margin" in found for found in problems(made, certificate, folder=tmp_path))


def copied(made: tuple[Path, Images, str], place: Path) -> Path:
    return Path(shutil.copytree(made[0], place / "copy"))


def edited(name: str, **values: Any) -> Callable[[Path], Any]:
    def edit(folder: Path) -> None:
        write_json(folder / name, {**read_json(folder / name), **values})

    return edit


AUTO_MAP = {"AutoConfig": "configuration_certified.CertifiedConfig"}


@pytest.mark.parametrize(
    ("spoil", "reason", "once_more"),
    [
        (edited("config.json", dtype="bfloat16"), "config.json is not that", '"dtype": "float32"'),
        (edited("config.json", id2label={"0": "b", "1": "a", "2": "c", "3": "d"}), "config.json is not that", None),
        (edited("config.json", quantization_config={}), "config.json is not that", "quantization_config"),
        (edited("config.json", auto_map=AUTO_MAP), "code that cannot be vouched for", "code that cannot be vouched"),
        (edited("preprocessor_config.json", do_rescale=False), "preprocessor_config.json is not that", "Processor"),
        (edited("preprocessor_config.json", image_size=9), "preprocessor_config.json is not that", "Processor"),
        (edited("preprocessor_config.json", auto_map="x--y.Z"), "cannot be vouched for", "cannot be vouched for"),
        (lambda at: write_json(at / "processor_config.json", {}), "processor_config.json is not that", "Processor"),
        (lambda at: (at / "pytorch_model.bin").touch(), "pytorch_model.bin is no file of", "pytorch_model.bin is no"),
        (
            lambda at: (at / "adapter_config.json").touch(),
            "adapter_config.json is no file",
            "adapter_config.json is no",
        ),
        (lambda at: (at / "modeling.py").touch(), "modeling.py is no file of", "modeling.py is no file of"),
    ],
)
def test_what_else_would_be_loaded_is_refused(
    made: tuple[Path, Images, str], tmp_path: Path, spoil: Callable[[Path], Any], reason: str, once_more: str | None
) -> None:
    """Also once the settings are hashed anew; names of classes are no claim, the numbers of classes are."""
    folder = copied(made, tmp_path)
    certificate = read_json(folder / "certificate.json")
    assert problems(made, certificate, folder=folder) == []
    spoil(folder)
    assert any(reason in problem for problem in problems(made, certificate, folder=folder))
    certificate["model"]["settings_sha256"] = settings_sha256(folder)
    try:
        found = problems(made, certificate, folder=folder)
    except ValueError as error:
        found = [str(error)]
    assert any(once_more in problem for problem in found) if once_more else found == []


def test_code_that_the_caller_knows_may_stand_beside_it(made: tuple[Path, Images, str], tmp_path: Path) -> None:
    folder = copied(made, tmp_path)
    certificate = read_json(folder / "certificate.json")
    add_modeling_code(folder)
    known = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in modeling_code().items()}
    assert problems(made, certificate, folder=folder, code=known) == []
    (folder / "architectures.py").write_text("import os")
    [found] = problems(made, certificate, folder=folder, code=known)
    assert "architectures.py is no file of the certificate" in found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' stands twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": ["\\ud800"]}', "surrogates not allowed"),
        ('{"a": {"\\udfff": 1}}', "surrogates not allowed"),
        ("[1]", "expected a JSON object"),
        ("{" * 100_000, "no JSON"),
        ('{"a": "\udcff"}', "no JSON"),
    ],
)
def test_json_has_one_reading(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_object(tmp_path / "x.json")
