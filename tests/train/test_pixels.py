"""What an iteration looks at: pixels and patches near the object, and how often samples' own images."""

from dataclasses import replace

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.masks.morphology import near
from lift3d.model import LiftedGAN
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import Cameras
from lift3d.scene.lights import Lights
from lift3d.train import consistency, exploit
from lift3d.train.data import Images, SampleSet
from lift3d.train.pixels import FAR, Pixels, draw_pixels, see

SIZE, COUNT = PRESET.size, 3


def pixels_of(model: LiftedGAN, images: torch.Tensor, masks: torch.Tensor, *rest: object) -> Pixels:
    return draw_pixels(model, images, masks, near(masks), *rest)


def x_y(pixels: Pixels) -> tuple[torch.Tensor, torch.Tensor]:
    return pixels.numbers % SIZE, pixels.numbers // SIZE


@pytest.fixture(scope="module")
def model() -> LiftedGAN:
    torch.manual_seed(0)
    return LiftedGAN(PRESET, tiny_gan().generator)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(COUNT, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def masks() -> torch.Tensor:
    """A square of 4 x 4 pixels at the upper right."""
    masks = torch.zeros(COUNT, SIZE, SIZE, dtype=torch.bool)
    masks[:, 2:6, 9:13] = True
    return masks


def test_rays_know_the_color_and_the_mask_of_their_pixel(model, images, masks):
    pixels = pixels_of(model, images, masks, 600, False, torch.Generator().manual_seed(2))
    assert pixels.numbers.shape == (COUNT, 200) and pixels.patch == 0
    x, y = x_y(pixels)
    for i in range(COUNT):
        torch.testing.assert_close(pixels.colors[i], (images[i][:, y[i], x[i]].T + 1) / 2)
        assert torch.equal(pixels.mask[i], masks[i][y[i], x[i]])


def test_rays_are_rarely_far_from_the_object(model, images, masks):
    pixels = pixels_of(model, images, masks, 30_000, False, torch.Generator().manual_seed(3))
    x, y = x_y(pixels)
    near = (x >= 8) & (x <= 13) & (y >= 1) & (y <= 6)  # one pixel, a sixteenth of the size, around the mask
    expected = 36 / (36 + (SIZE**2 - 36) * FAR)
    assert near.float().mean().item() == pytest.approx(expected, abs=0.02)
    everywhere = torch.ones_like(masks)  # without masks, every pixel is as good as another
    pixels = pixels_of(model, images, everywhere, 30_000, False, torch.Generator().manual_seed(3))
    assert torch.cat(x_y(pixels)).float().mean().item() == pytest.approx(SIZE / 2 - 0.5, abs=0.1)


def test_near_is_the_mask_grown_by_a_sixteenth_of_the_side() -> None:
    masks = torch.rand(2, 70, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.01
    grown = torch.zeros_like(masks)
    for y in range(32):
        for x in range(32):
            window = masks[..., max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            grown[..., y, x] = window.flatten(-2).any(-1)
    assert grown.any() and torch.equal(near(masks), grown)


def test_patches_are_squares_inside_the_image(images, masks):
    model = LiftedGAN(replace(PRESET, batch=replace(PRESET.batch, patch=5)), tiny_gan().generator)
    for seed in range(20):
        pixels = pixels_of(model, images, masks, 75, True, torch.Generator().manual_seed(seed))
        grid = torch.stack(x_y(pixels), -1).view(COUNT, 5, 5, 2)
        assert pixels.patch == 5 and 0 <= grid.min() and grid.max() <= SIZE - 1
        assert torch.equal(grid[:, :, 1:, 0] - grid[:, :, :-1, 0], torch.ones(COUNT, 5, 4, dtype=torch.int64))
        assert torch.equal(grid[:, 1:, :, 1] - grid[:, :-1, :, 1], torch.ones(COUNT, 4, 5, dtype=torch.int64))


class Distance(torch.nn.Module):
    """Mean absolute difference of each pair of images."""

    def forward(self, a, b):
        return (a - b).abs().mean((1, 2, 3))


class Seen(Exception):
    """Carries the images of an iteration out of it."""


@pytest.mark.parametrize(
    ("p_original", "low", "high"), [(0.0, 0, 0), (1.0, 1, 1), (0.5, 0.4, 0.6), (None, 0.2, 0.47)]
)
def test_step_3_looks_at_own_images_as_often_as_it_should(monkeypatch, p_original, low, high):
    """Own images are black, projections white; None makes both projections and the own image equal."""
    config = replace(PRESET, batch=replace(PRESET.batch, p_original=p_original, n_images=400))
    model = LiftedGAN(config, tiny_gan().generator)
    gray = lambda *shape, value: torch.full((*shape, 3, SIZE, SIZE), value, dtype=torch.uint8)  # noqa: E731
    shape = (2, 2, SIZE, SIZE)

    def drawn(n, value):
        masks = torch.ones(n, SIZE, SIZE, dtype=torch.bool)
        return SampleSet(gray(n, value=value), masks, w=torch.zeros(n, 16), seeds=torch.arange(n))

    samples = drawn(2, 0)
    masks = torch.ones(shape, dtype=torch.bool)
    white = gray(2, 2, value=255)
    projected = Images(white, masks, torch.zeros(2, 2, 6), torch.zeros(2, 2, 5))

    def stop(model, images, *rest):
        raise Seen(images)

    monkeypatch.setattr(exploit, "draw", lambda *args: (400, False))
    monkeypatch.setattr(exploit, "draw_pixels", stop)
    with pytest.raises(Seen) as caught:
        exploit.exploit_loss(
            model,
            samples,
            projected,
            samples,
            PRESET.joint,
            torch.nn.Identity(),
            torch.Generator().manual_seed(4),
            mirror_shapes=False,
        )
    share = (caught.value.args[0][:, 0, 0, 0] < 0).float().mean().item()
    assert low <= share <= high
    unlabeled = replace(drawn(5, 60), views=torch.zeros(5, 6), lights=torch.zeros(5, 5))
    with pytest.raises(Seen) as caught:
        exploit.exploit_loss(
            model,
            samples,
            projected,
            unlabeled,
            PRESET.joint,
            torch.nn.Identity(),
            torch.Generator().manual_seed(4),
            mirror_shapes=False,
        )
    seen = caught.value.args[0][:, 0, 0, 0]
    assert torch.where(seen < 0, (seen + 1) * 127.5, 60).allclose(torch.tensor(60.0))  # gray, not black
    assert (seen < 0).float().mean().item() == share


def test_views_are_named_in_the_range_of_the_preset():
    views = replace(PRESET.view_prior, limit=(0.2, 0.5, 0.05, 0.0, 0.0, 0.0))
    preset = replace(PRESET, view_range=(0.3, 0.6, 0.1), view_prior=views)
    model = LiftedGAN(preset, tiny_gan().generator)
    assert model.view_encoder.from_tanh(torch.ones(6))[:3].tolist() == pytest.approx([0.3, 0.6, 0.1])


def test_jitter_moves_and_stretches_and_continues_the_background():
    rng = torch.Generator().manual_seed(0)
    image = torch.ones(200, 3, 32, 32)
    image[:, :, 12:20, 12:20] = -1.0
    moved = consistency.jittered(image, 0.2, rng)
    assert (moved[:, :, 0] - 1).abs().max() < 1e-5  # the edge, wherever it went
    dark = (1 - moved[:, 0]) / 2
    area = dark.sum((1, 2))
    assert 1.3 * 64 < area.max() < 64 / 0.8**2 + 1 and 64 / 1.2**2 - 1 < area.min() < 0.8 * 64
    across = (dark.sum(1) * (torch.arange(32) + 0.5)).sum(1) / area - 16
    assert 1.0 < across.abs().max() < 0.2 / 2 * 16 / 0.8 + 0.5
    torch.testing.assert_close(consistency.jittered(image, 0.0, rng), image, atol=1e-4, rtol=0)


def test_pixels_of_one_point_show_what_a_mesh_shows_and_teach_the_shape_its_normals(images, masks):
    torch.manual_seed(1)
    model = LiftedGAN(PRESET, tiny_gan().generator).requires_grad_(True)
    with torch.no_grad():
        model.shape.head.weight.normal_(std=0.01)
        code = model.image_encoder(images)
    view = torch.tensor([[0.1, -0.4, 0.05, 0.0, 0.0, 0.0]]).repeat(COUNT, 1)
    light = torch.tensor([[0.4, 0.6, 0.5, -0.3, 0.0]]).repeat(COUNT, 1)
    pixels = pixels_of(model, images, masks | True, 150, False, torch.Generator().manual_seed(5))
    seen = see(model.surface(code), view, pixels.numbers, SIZE)
    color, hit = seen.colors(light), seen.hit
    x, y = x_y(pixels)
    for i in range(COUNT):
        with torch.no_grad():
            drawn = model.render(
                code[i],
                Cameras.from_view(view[:1]),
                Lights.from_vector(light[:1]),
                SIZE,
                MeshRenderer(resolution=96),
            )
        mask, drawn = drawn.mask[0, y[i], x[i]], drawn.colors[0, 0, y[i], x[i]]
        assert (mask == hit[i]).float().mean() > 0.95
        error = (color[i] - drawn)[mask & hit[i]].abs()
        assert len(error) > 10 and error.mean() < 0.01
    color[hit].sum().backward()
    assert model.shape.head.weight.grad.abs().max() > 0
    model.shape.zero_grad()
    for seen in (
        see(model.surface(code), view, pixels.numbers, SIZE).fixed,
        see(model.surface(code), view, pixels.numbers, SIZE, create_graph=False),
    ):
        torch.testing.assert_close(seen.colors(light), color)
        seen.colors(light)[hit].sum().backward()
        assert not any(p.grad.any() for p in model.shape.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("is_patch", "n_surface_pixels", "expected"), [(False, 8, True), (True, 8, False), (False, 0, False)]
)
def test_step_3_shades_such_pixels_where_it_looks_at_random_ones(
    monkeypatch, is_patch, n_surface_pixels, expected
):
    config = replace(PRESET, batch=replace(PRESET.batch, n_surface_pixels=n_surface_pixels, patch=4))
    model = LiftedGAN(config, tiny_gan().generator).requires_grad_(True)
    gray = torch.full((2, 2, 3, SIZE, SIZE), 90, dtype=torch.uint8)
    masks = torch.ones(2, 2, SIZE, SIZE, dtype=torch.bool)
    samples = SampleSet(gray[:, 0], masks[:, 0], w=torch.zeros(2, 16), seeds=torch.arange(2))
    projected = Images(gray, masks, torch.zeros(2, 2, 6), torch.zeros(2, 2, 5))
    monkeypatch.setattr(exploit, "draw", lambda *args: (2, is_patch))
    terms = exploit.exploit_loss(
        model,
        samples,
        projected,
        samples,
        PRESET.joint,
        Distance(),
        torch.Generator().manual_seed(4),
        mirror_shapes=False,
    )
    assert ("shaded" in terms) == expected
    if expected:
        w = config.weights
        parts = (
            terms["l1"] + terms["shaded"] + w.eikonal * terms["eikonal"] + w.view_light * terms["view_light"]
        )
        torch.testing.assert_close(terms["total"], parts + w.mask * terms.get("mask", torch.tensor(0.0)))
