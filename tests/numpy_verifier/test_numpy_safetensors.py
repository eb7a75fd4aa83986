"""Safetensors files read with NumPy: as the library reads them, and nothing that is corrupt."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from hf_warmup.numpy_verifier.weights import read_safetensors


TENSORS = {
    "weight": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),
    "empty": torch.zeros(0, 4),
    "count": torch.tensor(7),
    "double": torch.tensor([0.1, 1e300], dtype=torch.float64),
}
FILE = save(TENSORS, metadata={"format": "pt"})


def test_safetensors_are_read_as_the_library_does() -> None:
    found = read_safetensors(FILE)
    assert set(found) == set(TENSORS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)


def with_header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    length = int.from_bytes(FILE[:8], "little")
    header = json.loads(FILE[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    return len(text).to_bytes(8, "little") + text + FILE[8 + length :]


def set_entry(name: str, **values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda header: header[name].update(values)


def moved(header: dict[str, Any]) -> None:
    """Two tensors share their bytes, as a file that is read twice over them would have it."""
    first, last = header["weight"]["data_offsets"]
    header["twin"] = {**header["weight"], "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut off"),
        (FILE[:6], "cut off"),
        (FILE[:40], "cut off"),
        ((2**63).to_bytes(8, "little") + FILE[8:], "cut off"),
        ((3).to_bytes(8, "little") + FILE[8:], "header cannot be used"),
        (FILE[:-1], "another size|overlaps"),
        (FILE + b"x", "1 bytes belong to no tensor"),
        (with_header(lambda header: [1, 2]), "header cannot be used"),
        (with_header(moved), "overlaps"),
        (with_header(lambda header: header.pop("double") and None), "gap"),
        (with_header(set_entry("weight", shape=[2, 4])), "another size"),
        (with_header(set_entry("weight", shape=[-2, -3])), "is no count"),
        (with_header(set_entry("weight", shape=[2, 3.0])), "is no count"),
        (with_header(set_entry("weight", dtype="F16")), "'F16'"),
        (with_header(set_entry("weight", data_offsets=[0])), "header cannot be used"),
        (with_header(set_entry("double", data_offsets=[-8, 8])), "is no count"),
        (with_header(set_entry("weight", data_offsets=[2**70, 2**70 + 24])), "gap"),
        (with_header(lambda header: {**header, "weight": 3}), "header cannot be used"),
    ],
)
def test_corrupt_safetensors_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"safetensors: .*({reason})"):
        read_safetensors(data)


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255), st.booleans())
def test_a_flipped_byte_is_refused_or_harmless(place: int, flip: int, cut: bool) -> None:
    data = FILE[:place] + bytes([FILE[place] ^ flip]) + (b"" if cut else FILE[place + 1 :])
    reason = "read as if whole"
    try:
        size = sum(tensor.nbytes for tensor in read_safetensors(data).values())
    except ValueError as error:
        size, reason = -1, str(error)
    if size < 0 or (cut and place < len(FILE) - 1):
        assert reason.startswith("safetensors: ")
    else:
        assert size == sum(tensor.nbytes for tensor in TENSORS.values())
