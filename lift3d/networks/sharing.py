"""Networks that have parameters in common."""

import copy
from typing import TypeVar

from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def sharing(module: Network, **own: nn.Module | Tensor) -> Network:
    """A copy that shares everything with a module but these networks and buffers of its ``own``."""
    twin = copy.copy(module)
    twin._modules, twin._buffers = dict(module._modules), dict(module._buffers)
    for name, value in own.items():
        setattr(twin, name, value)
    return twin
