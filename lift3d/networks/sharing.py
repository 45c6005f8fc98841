"""Networks that have parameters in common."""

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def sharing(module: Network, **own: nn.Module | Tensor | Callable) -> Network:
    """A copy that shares everything with a module but what it has of its ``own``: networks, or functions in
    their place, and buffers.
    """
    twin = copy.copy(module)
    twin._modules, twin._buffers = dict(module._modules), dict(module._buffers)
    for name, value in own.items():
        if not isinstance(value, nn.Module | Tensor):
            twin._modules.pop(name, None)
        setattr(twin, name, value)
    return twin
