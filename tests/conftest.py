"""Setting of all tests: shapes and types checked at run time, one thread per process, fixed seeds, any torchvision."""

import random

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

# Checks the jaxtyping signatures of every function of lift3d (lift3d.cli and lift3d.export too) in tests, and only there.
# Must come before the first import of lift3d.
install_import_hook("lift3d", "beartype.beartype")

# lpips imports torchvision, whose extension does not load beside a torch of another build (CUDA beside CPU). lift3d uses
# none of its compiled operators, but torchvision refuses to be imported unless these two are declared.
try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    _operators = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
