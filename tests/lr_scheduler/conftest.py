"""Each test hears every notice, also one that an earlier test has heard."""

import pytest

from hf_warmup.lr_scheduler import notices


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    notices.forget()
