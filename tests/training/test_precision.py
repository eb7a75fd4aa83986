"""Training may use less precision where a recipe says so; what is proven never does."""

from collections.abc import Iterator

import pytest
import torch

from hf_warmup.certified.evaluation import assess
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_images
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.studies.certification.config import CertifiedTrainingConfig
from hf_warmup.studies.certification.run import _with_tf32, compile_mode, in_precision
from hf_warmup.training.precision import float32_arithmetic


def setting() -> tuple[bool, str]:
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    tf32, precision = setting()
    yield
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision(precision)


def test_setting_comes_back_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = setting()

    def work() -> None:
        with float32_arithmetic(tf32=True):
            assert setting() == (True, "high")
            with float32_arithmetic():
                assert setting() == (False, "highest")
            assert setting() == (True, "high")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert setting() == before


def test_tf32_is_for_training_alone() -> None:
    torch.backends.cudnn.allow_tf32 = False
    seen = []

    def training() -> Iterator[dict[str, int]]:
        for step in range(2):
            seen.append(torch.backends.cudnn.allow_tf32)
            yield {"step": step}

    outside = [torch.backends.cudnn.allow_tf32 for _ in _with_tf32(training(), True)]  # type: ignore[arg-type]
    assert seen == [True, True]
    assert outside == [False, False]


def test_proofs_are_in_float32_and_float64_whatever_is_set() -> None:
    data = load_images(DataConfig(name="digits", mode="L", test_examples=8))
    model = CertifiedForImageClassification(
        CertifiedConfig(architecture="cnn_small", hidden_sizes=[8, 8], dense_size=8, num_channels=1, image_size=8)
    ).eval()
    expected = assess(model, data.test, "1/100").margin
    torch.set_float32_matmul_precision("medium")
    assert torch.equal(assess(model, data.test, "1/100").margin, expected)
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_bf16_is_autocast(precision: str, dtype: torch.dtype) -> None:
    def objective(model: object, batch: dict[str, torch.Tensor], step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return batch["pixel_values"] @ batch["pixel_values"], {}

    loss, _ = in_precision(objective, precision)(None, {"pixel_values": torch.eye(2)}, 0)  # type: ignore[arg-type]
    assert loss.dtype == dtype


@pytest.mark.parametrize(
    ("device", "chosen", "accumulation", "expected"),
    [
        ("cpu", None, 1, None),
        ("cpu", True, 1, "default"),
        ("cuda", None, 1, "reduce-overhead"),
        ("cuda", None, 2, "default"),
        ("cuda", False, 1, None),
    ],
)
def test_compiled_where_it_pays_or_is_asked_for(
    device: str, chosen: bool | None, accumulation: int, expected: str | None
) -> None:
    training = CertifiedTrainingConfig(
        epochs=2, ramp_epochs=1, batch_size=8, compile=chosen, gradient_accumulation_steps=accumulation
    )
    assert compile_mode(training, torch.device(device)) == expected
