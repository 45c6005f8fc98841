"""Every error that lift3d raises on purpose: one sentence that names the value, the expectation and the fix.

The command line maps ``Lift3DError`` to exit code 1 in one place, ``cli/main.py``.
"""

from importlib import import_module
from typing import Any


class Lift3DError(Exception):
    """Base of all errors a user can cause and repair."""


class ConfigError(Lift3DError):
    """A setting, an option or an argument is unknown, out of range or contradicts another."""


class CheckpointError(Lift3DError):
    """A model or training checkpoint is missing, foreign, or does not fit the network it is loaded into."""


class BackendUnavailable(Lift3DError):
    """An optional dependency or a device is not there; the message says what to install or choose."""


class CorruptFile(Lift3DError):
    """A file is truncated, hostile or not of the kind its name promises."""


class RankLost(Lift3DError):
    """Of several processes that train together, another one has ended."""


class TrainingDiverged(Lift3DError):
    """A loss or a gradient became non-finite or dead; the last good checkpoint was kept."""


def optional(module: str, remedy: str) -> Any:
    """A module of a package that may not be there: ``BackendUnavailable`` then says the ``remedy``."""
    try:
        return import_module(module)
    except ImportError as error:
        raise BackendUnavailable(remedy) from error
