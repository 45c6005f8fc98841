"""Views and cameras against the formula of Rodrigues, naive projections and their own inverses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift3d.errors import ConfigError
from lift3d.scene.cameras import (
    DISTANCE,
    VIEW_NAMES,
    Cameras,
    ViewPrior,
    mirrored,
    pixel_grid,
    placed,
    rotation,
)

angle = st.floats(-1.2, 1.2)
shift = st.floats(-0.1, 0.1)
views = st.tuples(angle, angle, angle, shift, shift, shift)


def random_views(*shape: int, seed: int = 0) -> torch.Tensor:
    scale = torch.tensor([0.6, 0.9, 0.3, 0.1, 0.1, 0.1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(*shape, 6, generator=generator, dtype=torch.float64) - 1) * scale


def random_points(*shape: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.1 * torch.rand(*shape, 3, generator=generator, dtype=torch.float64) - 0.55


def turn(axis: int, radians: float) -> torch.Tensor:
    """Right-handed rotation about a coordinate axis by the formula of Rodrigues."""
    e = torch.eye(3, dtype=torch.float64)
    cross = torch.stack([torch.linalg.cross(e[axis], column) for column in e], -1)
    return e + math.sin(radians) * cross + (1 - math.cos(radians)) * cross @ cross


@given(views)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_rotation_is_rx_ry_rz(view: tuple[float, ...]) -> None:
    pitch, yaw, roll = view[:3]
    expected = turn(0, pitch) @ turn(1, yaw) @ turn(2, roll)
    actual = rotation(*torch.tensor(view[:3], dtype=torch.float64))
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(actual), torch.ones_like(actual[0, 0]))


def test_positive_angles_turn_the_face_down_to_image_right_and_counter_clockwise() -> None:
    nose, ear = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])

    def seen(name: str, point: torch.Tensor) -> torch.Tensor:
        view = torch.zeros(6)
        view[VIEW_NAMES.index(name)] = 0.1
        return Cameras.from_view(view).project(point, 64)[0] - 32

    assert seen("pitch", nose)[1] > 0.5 and abs(seen("pitch", nose)[0]) < 1e-5  # rows run downwards
    assert seen("yaw", nose)[0] > 0.5 and abs(seen("yaw", nose)[1]) < 1e-5
    assert seen("roll", ear)[1] < -0.5
    assert seen("t_x", nose)[0] > 0.5 and seen("t_y", nose)[1] < -0.5


def test_camera_space_is_the_stated_formula() -> None:
    view, points = random_views(4), random_points(4, 5)
    cameras = Cameras.from_view(view)
    moved = cameras.to_camera(points)
    for i in range(4):
        r = turn(0, view[i, 0]) @ turn(1, view[i, 1]) @ turn(2, view[i, 2])
        offset = view[i, 3:] + torch.tensor([0, 0, -DISTANCE], dtype=torch.float64)
        for k in range(5):
            torch.testing.assert_close(moved[i, k], r @ points[i, k] + offset)
            torch.testing.assert_close(cameras.z_depth(points)[i, k], -moved[i, k, 2])
        torch.testing.assert_close(
            r @ cameras.origins[i] + offset, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0
        )


@given(views, st.tuples(st.floats(0, 48), st.floats(0, 48)), st.floats(8, 11))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_project_inverts_rays(view: tuple[float, ...], pixel: tuple[float, ...], t: float) -> None:
    cameras = Cameras.from_view(torch.tensor(view, dtype=torch.float64))
    pixels = torch.tensor([pixel], dtype=torch.float64)
    origins, directions = cameras.rays(pixels, 48)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(origins[0], cameras.origins)
    torch.testing.assert_close(cameras.project(origins + t * directions, 48), pixels, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_rays_invert_project_for_any_batch(shape: tuple[int, ...]) -> None:
    cameras, points = Cameras.from_view(random_views(*shape)), random_points(*shape, 7)
    origins, directions = cameras.rays(cameras.project(points, 32), 32)
    t = (points - origins).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(origins + t * directions, points)
    assert origins.shape == directions.shape == (*shape, 7, 3)


def test_cam2world_and_intrinsics_reproduce_the_projection_in_opencv_axes() -> None:
    cameras, points = Cameras.from_view(random_views(2, 3)), random_points(2, 3, 6)
    cam2world, k = cameras.cam2world(), cameras.intrinsics(48)
    assert cam2world.shape == (2, 3, 4, 4)
    homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), -1)
    local = (torch.linalg.inv(cam2world)[..., None, :, :] @ homogeneous[..., None])[..., :3, 0]
    torch.testing.assert_close(local[..., 2], cameras.z_depth(points))  # z forward
    image = (k @ local[..., None])[..., 0]
    pixels = image[..., :2] / image[..., 2:]
    torch.testing.assert_close(pixels, cameras.project(points, 48), atol=1e-5, rtol=0)  # K is in single
    torch.testing.assert_close(
        torch.linalg.det(cam2world[..., :3, :3]), torch.ones(2, 3, dtype=torch.float64)
    )


def test_the_unit_sphere_touches_the_frame() -> None:
    edges = torch.tensor([[0.0, 20.0], [40.0, 20.0], [20.0, 0.0], [20.0, 40.0]], dtype=torch.float64)
    origins, directions = Cameras.from_view(torch.zeros(6, dtype=torch.float64)).rays(edges, 40)
    distance = torch.linalg.cross(origins, directions).norm(dim=-1)
    torch.testing.assert_close(distance, torch.ones(4, dtype=torch.float64))
    assert DISTANCE == pytest.approx(9.5668, abs=1e-4)
    assert math.degrees(
        2 * math.atan(20 / Cameras.from_view(torch.zeros(6)).focal_length(40))
    ) == pytest.approx(12.0)


def test_pixel_grid_lists_the_centers_row_by_row() -> None:
    expected = [[x + 0.5, y + 0.5] for y in range(3) for x in range(3)]
    assert pixel_grid(3).tolist() == expected


def test_gradients_reach_the_view() -> None:
    points, pixels = random_points(2, 3), 16 + 8 * random_points(2, 3)[..., :2]
    view = random_views(2).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: Cameras.from_view(v).project(points, 32), view)
    assert torch.autograd.gradcheck(lambda v: Cameras.from_view(v).rays(pixels, 32), view)


def test_view_prior_has_the_stated_mean_spread_and_limits() -> None:
    prior = ViewPrior((0.1, 0.0, 0.0, 0.0, 0.0, 0.02), (0.15, 0.3, 0.05, 0.0, 0.0, 0.1), (9.0,) * 5 + (0.1,))
    sample = prior.sample(20_000, torch.Generator().manual_seed(0))
    free = sample[:, :3]
    torch.testing.assert_close(free.mean(0), torch.tensor(prior.mean[:3]), atol=0.01, rtol=0)
    torch.testing.assert_close(free.std(0), torch.tensor(prior.std[:3]), atol=0, rtol=0.03)
    correlation = torch.corrcoef(free.T) - torch.eye(3)
    assert correlation.abs().max() < 0.03
    assert torch.equal(sample[:, 3:5], torch.zeros(20_000, 2))
    offset = sample[:, 5] - 0.02
    assert offset.abs().max() <= 0.1 + 1e-7
    assert ((offset.abs() > 0.1 - 1e-6).float().mean() - 0.3173).abs() < 0.02  # clipped, not redrawn


def test_views_of_a_prior_turn_about_its_pivot() -> None:
    prior = ViewPrior(std=(0.2, 0.4, 0.1, 0.0, 0.0, 0.0), pivot=(0.0, 0.1, 0.5))
    views = prior.sample(50, torch.Generator().manual_seed(0))
    pivot = torch.tensor([prior.pivot]).expand(50, 1, 3)
    seen = Cameras.from_view(views).project(pivot, 64)
    torch.testing.assert_close(seen, seen[:1].expand_as(seen), atol=1e-4, rtol=0)
    center = Cameras.from_view(views).project(torch.zeros(50, 1, 3), 64)
    assert center[..., 0].std() > 3  # pixels
    torch.testing.assert_close(prior.typical(), torch.zeros(6))
    back = placed(views, [-p for p in prior.pivot])
    torch.testing.assert_close(back[:, 3:], torch.zeros(50, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(placed(mirrored(back), prior.pivot), mirrored(views), atol=1e-6, rtol=0)


def test_view_prior_is_a_function_of_the_generator() -> None:
    first, second = (ViewPrior().sample(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, ViewPrior().sample(5, torch.Generator().manual_seed(4)))


def test_view_prior_refuses_nonsense() -> None:
    with pytest.raises(ConfigError, match=r"std needs 6 numbers \('pitch', .*got 3"):
        ViewPrior(std=(0.1, 0.2, 0.3))
    with pytest.raises(ConfigError, match="limit is .*expected numbers >= 0"):
        ViewPrior(limit=(0.6, -0.9, 0.2, 0.1, 0.1, 0.1))
    with pytest.raises(ConfigError, match=r"pivot is \(0.1, 0.0, 0.5\), expected \(0, y, z\), as"):
        ViewPrior(pivot=(0.1, 0.0, 0.5))


@pytest.mark.parametrize("fov_deg", [12.0, 45.0])
@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_views_and_matrices_are_inverse_to_each_other(fov_deg: float, axes: str) -> None:
    view = random_views(7)
    cameras = Cameras.from_view(view, fov_deg)
    torch.testing.assert_close(cameras.to_view(), view, atol=1e-9, rtol=0)
    matrix = cameras.cam2world()
    if axes == "opengl":
        matrix = matrix * matrix.new_tensor([1.0, -1.0, -1.0, 1.0])
    again = Cameras.from_cam2world(matrix, axes, fov_deg)
    torch.testing.assert_close(again.to_view(), view, atol=1e-9, rtol=0)


def test_the_unit_sphere_touches_the_frame_at_every_field_of_view() -> None:
    for fov_deg in (5.0, 12.0, 60.0):
        cameras = Cameras.from_view(torch.zeros(6, dtype=torch.float64), fov_deg)
        _, directions = cameras.rays(torch.tensor([[0.0, 20.0]], dtype=torch.float64), 40)
        origin = cameras.origins
        nearest = torch.linalg.cross(origin, directions[0]).norm()  # of the ray to the world's origin
        assert nearest.item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m * 2, "no rotation and translation"),
        (lambda m: m * torch.tensor([-1.0, 1.0, 1.0, 1.0]), "mirrored"),
        (
            lambda m: m * torch.tensor([[1.0, 1.0, 1.0, 0.05]] * 3 + [[1.0] * 4]),
            "stands 0.478 from the origin",
        ),
    ],
)
def test_matrices_that_are_no_cameras(change, message: str) -> None:
    matrix = Cameras.from_view(torch.zeros(1, 6)).cam2world()
    with pytest.raises(ConfigError, match=message):
        Cameras.from_cam2world(change(matrix))
    with pytest.raises(ConfigError, match="axes are 'blender', expected one of opencv, opengl"):
        Cameras.from_cam2world(matrix, "blender")
