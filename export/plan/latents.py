"""Which instances a dataset holds: by number, by seeds, by latents of one's own, or between two seeds."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.export.plan.syntax import digest
from lift3d.model import Samples
from lift3d.seeds import dataset_seed, seed_list
from lift3d.settings import shown

MAX_TEXT = 200  # characters of a list of seeds that stand in the file; longer ones are summed up


@runtime_checkable
class LatentModel(Protocol):
    """What instances need of ``LiftedGAN``."""

    def sample(self, seeds: Sequence[int], truncation: float) -> Samples: ...

    def to_w(self, z: Tensor, truncation: float) -> Tensor: ...

    def lift(self, w: Tensor, z: Tensor | None, seeds: Sequence[int] | None) -> Samples: ...


@dataclass(frozen=True)
class LatentPlan:
    """The instances of a dataset; ``random`` unless told: as many as wanted, of the dataset's own seed."""

    text: str = "random"
    n: int | None = None  # instances; None: as many as wanted
    seeds: tuple[int, ...] = field(default=(), compare=False, repr=False)
    ends: tuple[int, int] | None = field(default=None, compare=False)  # seeds to go from and to
    latents: Float[Tensor, "n c"] | None = field(default=None, compare=False, repr=False)
    space: str = "w"  # of the latents: "z", which truncation pulls to the mean, or "w", taken as they are

    def __str__(self) -> str:
        return self.text

    def sample(self, model: LatentModel, i: int, seed: int, truncation: float) -> Samples:
        """Instance i [1] of a dataset of this seed."""
        if self.latents is not None:
            row = self.latents[i : i + 1]
            if self.space == "w":
                return model.lift(row, None, None)
            return model.lift(model.to_w(row, truncation), row, None)
        if self.ends is not None:
            a, b = model.sample(self.ends, truncation).w
            return model.lift(a.lerp(b, i / max(self.n - 1, 1))[None], None, None)
        return model.sample([self.seeds[i] if self.seeds else dataset_seed(seed, i)], truncation)

    @staticmethod
    def of_seeds(seeds: Sequence[int]) -> "LatentPlan":
        """The model's samples of these seeds, as ``LiftedGAN.sample`` gives them."""
        seeds = tuple(seed_list(seeds))
        text = "seeds:" + ",".join(_runs(seeds))
        if len(text) > MAX_TEXT:
            text = f"seeds:{len(seeds)} {digest(np.array(seeds, np.int64))}"
        return LatentPlan(text, len(seeds), seeds)

    @staticmethod
    def between(a: int, b: int, steps: int) -> "LatentPlan":
        """The straight way in W from the sample of seed a to that of seed b, both among its ``steps``."""
        if not (0 <= min(a, b) and max(a, b) < 2**32 and steps >= 2):
            raise ConfigError(
                f"interpolate is {a}:{b}:{steps}, expected two seeds from 0 to 2^32 - 1 and at least 2 steps"
            )
        return LatentPlan(f"interpolate:{a}:{b}:{steps}", steps, ends=(a, b))

    @staticmethod
    def interpolate(text: str) -> "LatentPlan":
        """``between`` of a text such as "3:7:12"."""
        found = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,7})", text)
        if not found:
            raise ConfigError(f"interpolate is {shown(text)}, expected SEED:SEED:STEPS such as 3:7:12")
        return LatentPlan.between(*map(int, found.groups()))

    @staticmethod
    def of(latents: Float[Tensor, "*shape"], space: str = "w", name: str = "latents") -> "LatentPlan":
        """Latents of one's own, in W or Z."""
        if space not in ("w", "z") or latents.ndim != 2 or not len(latents):
            raise ConfigError(
                f"{name}: shape {tuple(latents.shape)} in space {shown(space)}, expected [n, length] in w, z"
            )
        if not latents.isfinite().all():
            raise ConfigError(f"{name}: some of the latents are NaN or infinite, expected numbers")
        text = f"{space}:{name} {digest(latents.cpu().numpy())}"
        return LatentPlan(text, len(latents), latents=latents.float(), space=space)

    @staticmethod
    def read(path: str | Path) -> "LatentPlan":
        """Latents of a file: .npy with w [n, length], or .npz with an array ``w`` or ``z``."""
        path = Path(path)
        try:
            found = np.load(path, allow_pickle=False)
            if path.suffix.lower() == ".npy":
                space, array = "w", found
            else:
                with found:
                    (space,) = {"w", "z"} & set(found.files)
                    array = found[space]
            latents = torch.from_numpy(np.ascontiguousarray(array, np.float32))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
        except Exception as error:  # NumPy and zipfile raise whatever their parsers do
            raise ConfigError(
                f"{path} holds no latents, expected an .npy file with w [n, length], or an .npz file with "
                "one array called w or z"
            ) from error
        return LatentPlan.of(latents, space, path.name)


def _runs(numbers: Sequence[int]) -> Iterator[str]:
    """Numbers as a list such as "0-9,12": three or more that follow each other are a run."""
    first = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            run = numbers[first:i]
            yield from [f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run)
            first = i
