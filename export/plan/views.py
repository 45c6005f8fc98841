"""Where the samples of a dataset are seen from.

A plan draws cameras from the model's prior, for every sample or once for all, or fixes them. Angles are in
degrees here: yaw turns the head to the right as its viewer sees it, so the camera goes around it to the left;
pitch nods it towards the viewer, so the camera looks from above by that elevation. Cameras stand ``distance``
from the head's center, 1 / sin(fov / 2) unless told, where the unit sphere touches the frame.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d import defaults
from lift3d.errors import ConfigError
from lift3d.export.plan.setting_file import read_views
from lift3d.export.plan.syntax import digest, number, parse, written
from lift3d.scene import cameras as scene
from lift3d.scene.cameras import FOV_DEG, Cameras, ViewPrior

FOVS = (0.5, 120.0)  # degrees; a wider one puts the camera, moved by t, into the unit sphere
_LENS = ("fov", "distance")
KINDS = {  # and the options that each takes
    "random": _LENS,
    "same": _LENS,
    "orbit": ("elevation", *_LENS),
    "grid": ("yaw", "pitch", *_LENS),
    "file": (),
}


@dataclass(frozen=True)
class ViewPlan:
    """The cameras of every sample. ``str(plan)`` is what ``--views`` takes, and ``parse`` reads it."""

    text: str
    n: int  # cameras per sample
    fov: float = FOV_DEG  # vertical field of view, degrees
    distance: float | None = None  # world units; None: the unit sphere touches the frame
    fixed: Cameras | None = field(default=None, compare=False, repr=False)  # None: drawn from the prior
    shared: bool = False  # drawn once, for all samples

    def __post_init__(self) -> None:
        if self.fixed is None:
            _check_lens(self.fov, self.distance)

    def __str__(self) -> str:
        return self.text

    def cameras(self, prior: ViewPrior, generator: torch.Generator) -> Cameras:
        """The n cameras of one sample: the fixed ones, or draws from the prior, in the order of their yaw."""
        if self.fixed is not None:
            return self.fixed
        views = prior.sample(self.n, generator)
        return _cameras(views[views[:, 1].argsort()], self.fov, self.distance)

    @staticmethod
    def parse(text: str) -> "ViewPlan":
        """The plan of a text such as "8", "same:8", "orbit:36,elevation=20", "grid:5x3,fov=30" or
        "file:cameras.json". ``ConfigError`` says what is wrong with another.
        """
        phrase = parse("views", text, KINDS)
        if phrase.kind == "file":
            return ViewPlan.read(phrase.argument)
        if phrase.kind == "grid":
            return ViewPlan.grid(*phrase.grid(), **phrase.options)
        if phrase.kind == "orbit":
            return ViewPlan.orbit(phrase.count(), **phrase.options)
        return ViewPlan.random(phrase.count(), shared=phrase.kind == "same", **phrase.options)

    @staticmethod
    def random(
        n: int = defaults.VIEWS, shared: bool = False, fov: float = FOV_DEG, distance: float | None = None
    ) -> "ViewPlan":
        """n draws from the model's prior, other ones for every sample unless ``shared``."""
        text = written(f"same:{n}" if shared else str(n), **_lens(fov, distance))
        return ViewPlan(text, n, fov, distance, shared=shared)

    @staticmethod
    def orbit(
        n: int, elevation: float = 0.0, fov: float = FOV_DEG, distance: float | None = None
    ) -> "ViewPlan":
        """A full turn in n equal steps, from the front, seen from above by ``elevation``."""
        number("views: elevation", elevation, -90.0, 90.0)
        text = written(f"orbit:{n}", elevation=(elevation, 0.0), **_lens(fov, distance))
        yaw = torch.arange(n) * (360.0 / n)
        return _by_angles(text, yaw, torch.full((n,), elevation), fov, distance)

    @staticmethod
    def grid(
        n_yaw: int, n_pitch: int, yaw: float = 40.0, pitch: float = 20.0, fov: float = FOV_DEG,
        distance: float | None = None,
    ) -> "ViewPlan":  # fmt: skip
        """Yaw from -``yaw`` to ``yaw`` in columns, pitch from ``pitch`` down to -``pitch`` in rows, row by
        row. At 180, yaw goes once around, without its last step.
        """
        for name, value, most in (("yaw", yaw, 180.0), ("pitch", pitch, 90.0)):
            number(f"views: {name}", value, 0.0, most)
        reach = {"yaw": (yaw, 40.0), "pitch": (pitch, 20.0)}
        text = written(f"grid:{n_yaw}x{n_pitch}", **reach, **_lens(fov, distance))
        columns = _spread(yaw, n_yaw + 1)[:-1] if yaw == 180.0 else _spread(yaw, n_yaw)
        rows = _spread(pitch, n_pitch).flip(0)
        return _by_angles(text, columns.repeat(n_pitch), rows.repeat_interleave(n_yaw), fov, distance)

    @staticmethod
    def of(cameras: Cameras, name: str = "cameras") -> "ViewPlan":
        """Cameras of one's own [v]: outside the unit sphere, with its center in the frame."""
        fov, origins = cameras.fov_deg, cameras.origins
        number("views: fov", fov, *FOVS)
        for i, (far, center) in enumerate(zip(origins.norm(dim=-1).tolist(), cameras.translation.tolist())):
            if (nearest := scene.distance(fov)) > far * (1 + 1e-4):
                raise ConfigError(_too_near(f"{name}, view {i}: ", fov, far, nearest))
            reach = -center[2] * math.tan(math.radians(fov / 2))
            if max(map(abs, center[:2])) >= reach:
                raise ConfigError(
                    f"{name}, view {i} looks past the origin, where the object is; turn the camera, or name "
                    f"its axes: {', '.join(scene.AXES)}"
                )
        text = written(f"file:{name} {digest(cameras.cam2world().cpu().numpy())}", fov=(fov, FOV_DEG))
        return ViewPlan(text, len(cameras), fov, fixed=cameras)

    @staticmethod
    def read(path: str | Path) -> "ViewPlan":
        """The views of a JSON or TOML file (setting_file.py)."""
        return ViewPlan.of(read_views(path, FOVS), Path(path).name)


def _lens(fov: float, distance: float | None) -> dict[str, tuple[float | None, float | None]]:
    return {"fov": (fov, FOV_DEG), "distance": (distance, None)}


def _check_lens(fov: float, distance: float | None) -> None:
    """``ConfigError`` unless the whole unit sphere is in front of the camera and in its frame."""
    number("views: fov", fov, *FOVS)
    if distance is not None and number("views: distance", distance) < (nearest := scene.distance(fov)):
        raise ConfigError(_too_near("views: ", fov, distance, nearest))


def _too_near(where: str, fov: float, distance: float, nearest: float) -> str:
    return (
        f"{where}a camera with a field of view of {fov:g} degrees stands {distance:.4g} from the center, "
        f"expected at least {nearest:.4g}, where the unit sphere fills the frame: move it away, or widen fov"
    )


def _cameras(views: Float[Tensor, "v 6"], fov: float, distance: float | None) -> Cameras:
    """Cameras of views (radians) at a distance."""
    nearest = scene.distance(fov)
    offset = views.new_tensor((0, 0, 0, 0, 0, nearest - (nearest if distance is None else distance)))
    return Cameras.from_view(views + offset, fov)


def _by_angles(
    text: str, yaw: Float[Tensor, " v"], pitch: Float[Tensor, " v"], fov: float, distance: float | None
) -> ViewPlan:
    _check_lens(fov, distance)
    zero = torch.zeros(len(yaw))
    views = torch.stack((pitch.deg2rad(), yaw.deg2rad(), zero, zero, zero, zero), -1)
    return ViewPlan(text, len(yaw), fov, distance, _cameras(views, fov, distance))


def _spread(reach: float, n: int) -> Float[Tensor, " n"]:
    """n numbers from -reach to reach; 0 alone."""
    return torch.linspace(-reach, reach, n) if n > 1 else torch.zeros(n)
