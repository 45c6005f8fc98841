"""Cameras and views, and THE world frame of lift3d.

World frame = object space: right-handed, x right, y up, z towards the viewer at the canonical pose. The
object lies inside the unit sphere. The object stands still and the camera moves, but a *view* is written as
the object's pose

    x_cam = R x + t + (0, 0, -D),    R = Rx(pitch) Ry(yaw) Rz(roll),    v = (pitch, yaw, roll, t_x, t_y, t_z)

with the camera at the origin looking along -z (OpenGL axes: x right, y up). Angles are right-handed radians,
lengths world units. D = 1 / sin(fov / 2), so the unit sphere touches the frame whatever the vertical field of
view is; where nothing else is said, it is 12 degrees. Pixel centers lie at +0.5; image rows run downwards.
``cam2world`` and ``intrinsics`` leave the program in OpenCV axes (x right, y down, z forward), as
dataset-format.md asks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.scene.batch import Batch
from lift3d.settings import setting

FOV_DEG = 12.0
AXES = {"opencv": (1.0, -1.0, -1.0), "opengl": (1.0, 1.0, 1.0)}  # signs of a camera's x, y, z in OpenGL axes
VIEW_NAMES = ("pitch", "yaw", "roll", "t_x", "t_y", "t_z")


def rotation(
    pitch: Float[Tensor, "*s"], yaw: Float[Tensor, "*s"], roll: Float[Tensor, "*s"]
) -> Float[Tensor, "*s 3 3"]:
    """R = Rx(pitch) Ry(yaw) Rz(roll), right-handed, radians."""
    zero, one = torch.zeros_like(pitch), torch.ones_like(pitch)

    def rows(*values: Tensor) -> Tensor:
        return torch.stack(values, -1).unflatten(-1, (3, 3))

    cx, sx, cy, sy, cz, sz = pitch.cos(), pitch.sin(), yaw.cos(), yaw.sin(), roll.cos(), roll.sin()
    rx = rows(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    ry = rows(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    rz = rows(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return rx @ ry @ rz


def distance(fov_deg: float = FOV_DEG) -> float:
    """D: how far a camera stands whose frame the unit sphere touches."""
    return 1.0 / math.sin(math.radians(fov_deg / 2))


DISTANCE = distance()  # 9.567


@dataclass(frozen=True, repr=False)
class Cameras(Batch):
    """A batch of pinhole cameras around one object: object rotation and camera-space translation per view."""

    rotation: Float[Tensor, "*s 3 3"]  # R of the module docstring
    translation: Float[Tensor, "*s 3"]  # t + (0, 0, -D)
    fov_deg: float = FOV_DEG  # vertical field of view of all of them, degrees

    @staticmethod
    def from_view(view: Float[Tensor, "*s 6"], fov_deg: float = FOV_DEG) -> "Cameras":
        """Cameras of views v = (pitch, yaw, roll, t_x, t_y, t_z)."""
        offset = view.new_tensor((0.0, 0.0, -distance(fov_deg)))
        return Cameras(rotation(view[..., 0], view[..., 1], view[..., 2]), view[..., 3:] + offset, fov_deg)

    def to_view(self) -> Float[Tensor, "*s 6"]:
        """Inverse of ``from_view``, for |yaw| < pi / 2."""
        r = self.rotation
        angles = (
            torch.atan2(-r[..., 1, 2], r[..., 2, 2]),
            torch.asin(r[..., 0, 2].clamp(-1.0, 1.0)),
            torch.atan2(-r[..., 0, 1], r[..., 0, 0]),
        )
        offset = self.translation.new_tensor((0.0, 0.0, distance(self.fov_deg)))
        return torch.cat((torch.stack(angles, -1), self.translation + offset), -1)

    @staticmethod
    def from_cam2world(
        matrix: Float[Tensor, "*s 4 4"], axes: str = "opencv", fov_deg: float = FOV_DEG
    ) -> "Cameras":
        """Cameras of camera-to-world matrices, whose axes are "opencv" (x right, y down, z forward) or
        "opengl" (x right, y up, z backward). Inverse of ``cam2world``.

        Raises ``ConfigError`` for other axes, for a matrix that is no rigid motion, and for a camera inside
        the unit sphere, where the object is.
        """
        if axes not in AXES:
            raise ConfigError(f"camera axes are {axes!r}, expected one of {', '.join(AXES)}")
        turn, origins = matrix[..., :3, :3] * matrix.new_tensor(AXES[axes]), matrix[..., :3, 3]
        identity = torch.eye(3).to(turn)
        last = matrix.new_tensor((0.0, 0.0, 0.0, 1.0))
        rigid = torch.allclose(turn @ turn.mT, identity.expand_as(turn), atol=1e-3)
        if not rigid or not torch.allclose(matrix[..., 3, :], last.expand_as(matrix[..., 3, :]), atol=1e-6):
            raise ConfigError(
                "a cam2world matrix is no rotation and translation: expected orthonormal columns without "
                "scale, and (0, 0, 0, 1) as the last row"
            )
        if (torch.linalg.det(turn) < 0).any():
            raise ConfigError("a cam2world matrix is mirrored (determinant -1), expected a rotation")
        nearest = origins.norm(dim=-1).amin().item()
        if nearest <= 1.0:
            raise ConfigError(
                f"a camera stands {nearest:.3g} from the origin, expected more than 1: the object fills the "
                "unit sphere"
            )
        return Cameras(turn.mT, -(turn.mT @ origins[..., None])[..., 0], fov_deg)

    @property
    def origins(self) -> Float[Tensor, "*s 3"]:
        """Camera centers in the world frame."""
        return -(self.rotation.mT @ self.translation[..., None])[..., 0]

    def to_camera(self, points: Float[Tensor, "*s n 3"]) -> Float[Tensor, "*s n 3"]:
        """World points -> camera space (OpenGL axes; visible points have negative z)."""
        return points @ self.rotation.mT + self.translation[..., None, :]

    def rays(
        self, pixels: Float[Tensor, "*s n 2"], size: int
    ) -> tuple[Float[Tensor, "*s n 3"], Float[Tensor, "*s n 3"]]:
        """World origins and unit directions through image points (x, y) in pixels of a size x size image."""
        focal = self.focal_length(size)
        x = (pixels[..., 0] - size / 2) / focal
        y = -(pixels[..., 1] - size / 2) / focal
        local = torch.stack((x, y, -torch.ones_like(x)), -1)
        directions = torch.nn.functional.normalize(local @ self.rotation, dim=-1)
        return self.origins[..., None, :].expand_as(directions), directions

    def project(self, points: Float[Tensor, "*s n 3"], size: int) -> Float[Tensor, "*s n 2"]:
        """World points -> pixels (x, y) of a size x size image; inverse of ``rays``."""
        p = self.to_camera(points)
        focal = self.focal_length(size)
        depth = -p[..., 2]
        return torch.stack((size / 2 + focal * p[..., 0] / depth, size / 2 - focal * p[..., 1] / depth), -1)

    def z_depth(self, points: Float[Tensor, "*s n 3"]) -> Float[Tensor, "*s n"]:
        """Distance of world points along the optical axis (positive in front of the camera)."""
        return -self.to_camera(points)[..., 2]

    def cam2world(self) -> Float[Tensor, "*s 4 4"]:
        """Camera-to-world matrices in OpenCV axes (x right, y down, z forward)."""
        flip = self.rotation.new_tensor(AXES["opencv"])
        top = torch.cat((self.rotation.mT * flip, self.origins[..., None]), -1)
        bottom = top.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(*top.shape[:-2], 1, 4)
        return torch.cat((top, bottom), -2)

    def focal_length(self, size: int) -> float:
        """Focal length in pixels of a square image of ``size`` pixels."""
        return size / 2 / math.tan(math.radians(self.fov_deg / 2))

    def intrinsics(self, size: int) -> Float[Tensor, "3 3"]:
        """K of all cameras, in pixels of a size x size image, pixel centers at +0.5."""
        focal = self.focal_length(size)
        return self.rotation.new_tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])


def pixel_grid(size: int, device: torch.device | str = "cpu") -> Float[Tensor, "{size}*{size} 2"]:
    """Centers (x, y) of all pixels, row by row."""
    y, x = torch.meshgrid(*(torch.arange(size, device=device) + 0.5,) * 2, indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2)


def mirrored(views: Float[Tensor, "*s 6"]) -> Float[Tensor, "*s 6"]:
    """Views of the mirrored images of an object that is symmetric in x."""
    return views * views.new_tensor((1.0, -1.0, -1.0, -1.0, 1.0, 1.0))


def placed(views: Float[Tensor, "*s 6"], pivot: Sequence[float]) -> Float[Tensor, "*s 6"]:
    """The views, moved so that the object turns about ``pivot``, a point of it in world units, instead of the
    origin: t + p - R p. The inverse is the same with -p.
    """
    point = views.new_tensor(tuple(pivot))
    turned = rotation(views[..., 0], views[..., 1], views[..., 2]) @ point
    return torch.cat((views[..., :3], views[..., 3:] + point - turned), -1)


@dataclass(frozen=True)
class ViewPrior:
    """Independent normals over the six numbers of a view (a diagonal multivariate normal), each clipped to a
    range that E_v can express. Objects turn about a ``pivot``: photographs that are aligned by eyes and mouth
    show those at the same place, whatever the head's pose."""

    mean: tuple[float, ...] = setting(
        (0.0,) * 6, -10, 10, "typical pitch, yaw, roll, t_x, t_y, t_z", "radians, world units"
    )
    std: tuple[float, ...] = setting(
        (0.15, 0.3, 0.05, 0.0, 0.0, 0.0), 0, 10, "spread of each of them", "radians, world units"
    )
    limit: tuple[float, ...] = setting(
        (0.6, 0.9, 0.2, 0.1, 0.1, 0.1), 0, 10, "largest deviation from the mean", "radians, world units"
    )
    pivot: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0), -1, 1, "the point of the object that alignment keeps in place", "world units"
    )

    def __post_init__(self) -> None:
        for name in ("mean", "std", "limit"):
            value = getattr(self, name)
            if len(value) != 6:
                raise ConfigError(f"view prior: {name} needs 6 numbers {VIEW_NAMES}, got {len(value)}")
            if name != "mean" and min(value) < 0:
                raise ConfigError(f"view prior: {name} is {value}, expected numbers >= 0")
        if len(self.pivot) != 3 or self.pivot[0]:
            raise ConfigError(
                f"view prior: pivot is {self.pivot}, expected (0, y, z), as objects are symmetric in x"
            )

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 6"]:
        """n independent views."""
        limit = torch.tensor(self.limit)
        offset = torch.randn(n, 6, generator=generator) * torch.tensor(self.std)
        views = torch.tensor(self.mean) + torch.maximum(torch.minimum(offset, limit), -limit)
        return placed(views, self.pivot)

    def typical(self) -> Float[Tensor, "6"]:
        """The view of mean angles."""
        return placed(torch.tensor(self.mean), self.pivot)
