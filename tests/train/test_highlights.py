"""Highlights by color: what is separated, how far it is trusted, and what normals learn from it."""

import torch

from lift3d.scene.geometry import normalize
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shade, shading
from lift3d.train.highlights import BRIGHTEST, highlight_loss, separate

RNG = torch.Generator()
SKIN = torch.tensor([0.7, 0.45, 0.35])
TO_CAMERA = torch.tensor([0.0, 0.0, 1.0])


def test_colors_are_separated_into_the_surface_and_white():
    RNG.manual_seed(0)
    albedo = torch.rand(2, 60, 3, generator=RNG) * torch.tensor([0.3, 0.5, 0.9]) + torch.tensor(
        [0.6, 0.2, 0.03]
    )
    brightness, white = torch.rand(2, 60, 1, generator=RNG) + 0.2, 0.3 * torch.rand(2, 60, 1, generator=RNG)
    found, trust = separate(brightness * albedo + white, albedo)
    torch.testing.assert_close(found, white, atol=1e-3, rtol=0)
    assert ((0 < trust) & (trust < 1)).all()
    assert separate(torch.ones(1, 1, 3), albedo[:1, :1])[0].item() < BRIGHTEST + 1e-6


def test_gray_surfaces_say_nothing():
    observed = torch.full((1, 1, 3), 0.7)
    for albedo in (torch.full((1, 1, 3), 0.5), torch.zeros(1, 1, 3)):
        radiance, trust = separate(observed, albedo)
        assert radiance.isfinite().all() and trust.item() < 1e-4
    assert (
        highlight_loss(torch.ones(1, 1, 1), observed, torch.full((1, 1, 3), 0.5), torch.ones(1, 1) > 0) < 1e-4
    )


def test_normals_turn_until_the_highlight_is_where_colors_show_it():
    RNG.manual_seed(1)
    truth = normalize(0.5 * torch.randn(1, 800, 3, generator=RNG) + TO_CAMERA)
    lamps = Lights.from_vector(torch.tensor([[0.4, 0.6, 0.3, 0.2, 0.0]])).per_point(1)
    material = Material(SKIN.expand_as(truth), *(x * torch.ones(1, 800, 1) for x in (0.3, 20.0)))
    observed = shade(truth, TO_CAMERA.expand_as(truth), material, lamps)
    turn = torch.tensor([0.12, -0.1, 0.0], requires_grad=True)  # about x and y, radians
    albedo = SKIN.expand_as(truth).clone().requires_grad_()
    adam, before = torch.optim.Adam([turn], 0.01), turn.detach().norm()
    for _ in range(80):
        normals = normalize(truth + torch.linalg.cross(turn.expand_as(truth), truth))
        specular = shading(normals, TO_CAMERA.expand_as(truth), material, lamps).specular
        loss = highlight_loss(specular, observed, albedo, torch.ones(1, 800) > 0)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert turn.detach()[:2].norm() < 0.15 * before  # about z, highlights hardly move
    assert albedo.grad is None
