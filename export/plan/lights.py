"""What the samples of a dataset are lit by: one light at a time.

A plan draws lights from the model's prior or from all around, for every sample or once for all, or fixes
them. Azimuth and elevation, in degrees, are those of the direction towards the light: azimuth 0 is the
viewer's side, 90 the right of the picture, elevation 90 above.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d import defaults
from lift3d.export.plan.setting_file import read_lights
from lift3d.export.plan.syntax import digest, number, parse, written
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import LightPrior, Lights

STRENGTHS = (0.0, 10.0)  # range of the coefficients
AMBIENT, DIFFUSE = 0.3, 0.7  # of lights with given directions, unless told
_POWER = ("ambient", "diffuse")
KINDS = {  # and the options that each takes
    "random": _POWER,
    "same": _POWER,
    "sphere": _POWER,
    "sweep": ("elevation", "azimuth", *_POWER),
    "olat": ("azimuth", *_POWER),
    "file": (),
}


@dataclass(frozen=True)
class LightPlan:
    """The lights of every sample. ``str(plan)`` is what ``--lights`` takes, and ``parse`` reads it."""

    text: str
    n: int  # lights per sample
    ambient: float | None = None  # k_a of drawn lights; None: as drawn
    diffuse: float | None = None  # k_d of drawn lights
    fixed: Lights | None = field(default=None, compare=False, repr=False)  # None: drawn
    shared: bool = False  # drawn once, for all samples
    everywhere: bool = False  # drawn from the whole sphere, not from the prior

    def __post_init__(self) -> None:
        for name in _POWER:
            if (value := getattr(self, name)) is not None:
                number(f"lights: {name}", value, *STRENGTHS)

    def __str__(self) -> str:
        return self.text

    def lights(self, prior: LightPrior, generator: torch.Generator) -> Lights:
        """The n lights of one sample: the fixed ones, or draws, from left to right."""
        if self.fixed is not None:
            return self.fixed
        drawn = Lights.from_vector(prior.sample(self.n, generator))
        if self.everywhere:
            drawn = replace(drawn, direction=normalize(torch.randn(self.n, 3, generator=generator)))
        for name in _POWER:
            if (value := getattr(self, name)) is not None:
                drawn = replace(drawn, **{name: torch.full((self.n,), float(value))})
        x, _, z = drawn.direction.unbind(-1)
        return drawn[torch.atan2(x, z).argsort()]

    @staticmethod
    def parse(text: str) -> "LightPlan":
        """The plan of a text such as "8", "same:8", "sphere:8", "sweep:9,elevation=30", "olat:8x4" or
        "file:lights.json". ``ConfigError`` says what is wrong with another.
        """
        phrase = parse("lights", text, KINDS)
        if phrase.kind == "file":
            return LightPlan.read(phrase.argument)
        if phrase.kind == "olat":
            return LightPlan.olat(*phrase.grid(), **phrase.options)
        if phrase.kind == "sweep":
            return LightPlan.sweep(phrase.count(), **phrase.options)
        where = {"shared": phrase.kind == "same", "everywhere": phrase.kind == "sphere"}
        return LightPlan.random(phrase.count(), **where, **phrase.options)

    @staticmethod
    def random(
        n: int = defaults.LIGHTS, shared: bool = False, everywhere: bool = False,
        ambient: float | None = None, diffuse: float | None = None,
    ) -> "LightPlan":  # fmt: skip
        """n draws, other ones for every sample unless ``shared``: from the model's prior, or with directions
        ``everywhere``, uniform on the sphere. ``ambient`` and ``diffuse`` replace what the prior draws.
        """
        head = f"sphere:{n}" if everywhere else f"same:{n}" if shared else str(n)
        text = written(head, ambient=(ambient, None), diffuse=(diffuse, None))
        return LightPlan(text, n, ambient, diffuse, shared=shared, everywhere=everywhere)

    @staticmethod
    def sweep(
        n: int, elevation: float = 0.0, azimuth: float = 90.0, ambient: float = AMBIENT,
        diffuse: float = DIFFUSE,
    ) -> "LightPlan":  # fmt: skip
        """An arc of n lights at one elevation, from azimuth -``azimuth`` to ``azimuth``; at 180 it goes once
        around, without its last step.
        """
        number("lights: elevation", elevation, -90.0, 90.0)
        number("lights: azimuth", azimuth, 0.0, 180.0)
        text = written(
            f"sweep:{n}", elevation=(elevation, 0.0), azimuth=(azimuth, 90.0), ambient=(ambient, AMBIENT),
            diffuse=(diffuse, DIFFUSE),
        )  # fmt: skip
        steps = n + 1 if azimuth == 180.0 else n
        around = torch.linspace(-azimuth, azimuth, steps)[:n] if n > 1 else torch.zeros(1)
        return _of(text, around, torch.full((n,), math.sin(math.radians(elevation))), ambient, diffuse)

    @staticmethod
    def olat(
        columns: int, rows: int, azimuth: float = 90.0, ambient: float = 0.0, diffuse: float = 1.0
    ) -> "LightPlan":
        """One light at a time, as a light stage has them: the centers of columns x rows patches of equal
        solid angle, from above to below and from left to right, of the viewer's hemisphere, or of the part of
        the sphere within ``azimuth`` to either side (180: all of it).
        """
        number("lights: azimuth", azimuth, 0.0, 180.0)
        text = written(
            f"olat:{columns}x{rows}", azimuth=(azimuth, 90.0), ambient=(ambient, 0.0), diffuse=(diffuse, 1.0)
        )
        around = ((torch.arange(columns) + 0.5) / columns * 2 - 1) * azimuth
        height = 1 - (torch.arange(rows) + 0.5) / rows * 2
        return _of(text, around.repeat(rows), height.repeat_interleave(columns), ambient, diffuse)

    @staticmethod
    def of(lights: Lights, name: str = "lights") -> "LightPlan":
        """Lights of one's own [l]."""
        rest = torch.stack((lights.ambient, lights.diffuse, lights.negative), -1)
        vectors = torch.cat((lights.direction, rest), -1)
        return LightPlan(f"file:{name} {digest(vectors.cpu().numpy())}", len(lights), fixed=lights)

    @staticmethod
    def read(path: str | Path) -> "LightPlan":
        """The lights of a JSON or TOML file (setting_file.py)."""
        return LightPlan.of(read_lights(path, AMBIENT, DIFFUSE, STRENGTHS), Path(path).name)


def _of(
    text: str, azimuth: Float[Tensor, " l"], height: Float[Tensor, " l"], ambient: float, diffuse: float
) -> LightPlan:
    """A plan of lights by azimuth (degrees) and height (sine of the elevation)."""
    for name, value in (("ambient", ambient), ("diffuse", diffuse)):
        number(f"lights: {name}", value, *STRENGTHS)
    flat, angle = (1 - height.square()).clamp_min(0).sqrt(), azimuth.deg2rad()
    directions = torch.stack((flat * angle.sin(), height, flat * angle.cos()), -1)
    return LightPlan(text, len(azimuth), fixed=Lights.from_direction(directions, ambient, diffuse))
