"""Small files appear at their path whole or not at all."""

from pathlib import Path

from lift3d.errors import ConfigError, Lift3DError
from lift3d.whole_file import replacing


def write_whole(path: Path | str, data: bytes) -> None:
    """Write a file in one rename; what was there is replaced."""
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise Lift3DError(f"cannot write {path}: {error.strerror}") from error


def require_suffix(path: Path | str, suffix: str) -> Path:
    """The path, if its name says what will be in it."""
    if Path(path).suffix.lower() != suffix:
        raise ConfigError(f"{path} does not end in {suffix}; give a name that does")
    return Path(path)
