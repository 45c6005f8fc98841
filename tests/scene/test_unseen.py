"""Material where no image ever looks: a ball with a mouth on its back."""

from itertools import product

import torch
from torch import Tensor

from lift3d.scene.cameras import Cameras, ViewPrior
from lift3d.scene.geometry import FACING, normalize
from lift3d.scene.shading import Material
from lift3d.scene.surface import Surface
from lift3d.scene.unseen import REACH, facing, fading, seen

NONE = (0.0,) * 4
PRIOR = ViewPrior(mean=(0.1, -0.2, *NONE), std=(0.1, 0.4, *NONE), limit=(0.4, 0.7, *NONE))
SKIN, MOUTH = (0.8, 0.6, 0.5), (0.7, 0.1, 0.1)


def sphere(n: int = 2000) -> Tensor:
    return normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(0))) * 0.7


def ball(skin: tuple[float, ...] = SKIN) -> Surface:
    """A mouth in front, and its echo at the back."""

    def material(points: Tensor, normals: Tensor, feature: Tensor) -> Material:
        is_mouth = (points[..., 2:].abs() > 0.65) & (points[..., 1:2] < 0.1)
        albedo = torch.where(is_mouth, points.new_tensor(MOUTH), points.new_tensor(skin))
        return Material(albedo, 0.2 + 0.1 * points[..., 1:2], 30 + 10 * points[..., :1])

    return Surface(lambda x: (x.norm(dim=-1, keepdim=True) - 0.7, x), material)


def test_the_best_camera_of_a_prior_is_found_among_its_views() -> None:
    normals = normalize(sphere(200))
    angles = [(0.1 + i * REACH * 0.1, -0.2 + j * 0.7) for i, j in product((-1, 0, 1), repeat=2)]
    cosines = []
    for pitch, yaw in angles:  # the limit of yaw is nearer than two standard deviations
        camera = Cameras.from_view(torch.tensor([pitch, yaw, 0, 0, 0, 0]))
        cosines.append((normals * normalize(camera.origins)).sum(-1))
    torch.testing.assert_close(facing(normals, PRIOR), torch.stack(cosines).amax(0), atol=1e-5, rtol=0)
    share = seen(normals, PRIOR)
    assert (share[torch.stack(cosines).amax(0) > FACING[1] + 1e-5] == 1).all() and (share == 0).any()


def test_the_echo_of_a_mouth_fades_and_the_mouth_stays() -> None:
    surface = ball()
    shown = fading(surface, sphere(), PRIOR)
    points = sphere()[None]
    normals = normalize(points)
    before, after = (s.material(points, normals, points) for s in (surface, shown))
    is_seen, is_hidden = seen(normals, PRIOR) == 1, seen(normals, PRIOR) == 0
    assert is_hidden.sum() > 400
    for name in ("albedo", "specular", "shininess"):
        assert torch.equal(getattr(before, name)[is_seen], getattr(after, name)[is_seen])
    red = lambda m: m.albedo[..., 1] < 0.3  # noqa: E731
    assert (red(before) & is_hidden).sum() > 10 and (red(before) & is_seen).sum() > 10
    torch.testing.assert_close(after.albedo[is_hidden], torch.tensor(SKIN).expand(int(is_hidden.sum()), 3))
    top, bottom = (after.specular[is_hidden & (sign * points[..., 1] > 0.3)] for sign in (1, -1))
    assert top.min() > bottom.max()  # a mean of the neighborhood, not of everything


def test_a_surface_of_one_material_stays_as_it_is() -> None:
    constant = Surface(
        ball().sdf,
        lambda x, n, feature: Material(0.0 * x + 0.3, 0.0 * x[..., :1] + 0.2, 0.0 * x[..., :1] + 30),
    )
    points = sphere()[None]
    found = fading(constant, sphere(), PRIOR).material(points, normalize(points), points)
    torch.testing.assert_close(found.albedo, torch.full_like(points, 0.3))
    torch.testing.assert_close(found.shininess, torch.full_like(points[..., :1], 30.0))


def test_without_points_at_the_rim_nothing_is_changed() -> None:
    surface = ball()
    assert fading(surface, torch.tensor([[0.0, 0.0, 0.7], [0.0, 0.0, -0.7]]), PRIOR) is surface
