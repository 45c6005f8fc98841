"""Matrix products in single precision at the full rate of a device."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

_CPU = getattr(torch.backends.mkldnn, "matmul", None)  # since PyTorch 2.9


@contextmanager
def fast_products() -> Iterator[None]:
    """Inside, a GPU rounds the factors of matrix products to 10 bits (TF32), as it does in convolutions. A
    CPU computes them by oneDNN, where that is exact; it writes and keeps a program for every shape it meets.
    """
    gpu = torch.backends.cuda.matmul
    tf32, gpu.allow_tf32 = gpu.allow_tf32, True
    if _onednn_is_exact():
        before, _CPU.fp32_precision = _CPU.fp32_precision, "bf16"
    try:
        yield
    finally:
        gpu.allow_tf32 = tf32
        if _onednn_is_exact():
            _CPU.fp32_precision = before


@cache
def _onednn_is_exact() -> bool:
    """PyTorch leaves products of float32 to oneDNN where it may round their factors to bfloat16, which it
    does on processors that have tiles of that type (AMX). On all others they are as exact as without it.
    """
    if _CPU is None or not torch.backends.mkldnn.is_available():
        return False
    a = torch.linspace(0, 1, 256 * 256).view(256, 256)
    before, _CPU.fp32_precision = _CPU.fp32_precision, "bf16"
    try:
        found = a @ a
    finally:
        _CPU.fp32_precision = before
    return torch.allclose(found.double(), a.double() @ a.double(), rtol=1e-5)
