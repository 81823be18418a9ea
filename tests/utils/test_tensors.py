"""Files of tensors: equal content makes equal bytes."""

from pathlib import Path

import torch
from safetensors import safe_open

from gsplatloc.utils.tensors import write_tensors

METADATA = {f"key {index} ü": f'"value" {index}' for index in range(12)}


def test_equal_content_makes_equal_files(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(5.0), "b": torch.ones(2, 3, dtype=torch.bfloat16).T}
    for index in range(3):
        write_tensors(tmp_path / f"{index}.safetensors", tensors, METADATA)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == METADATA
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())
