"""Synthetic heads: the bundled model, its random streams, its paint, and renders against the mesh itself."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import trimesh

from lift3d.errors import ConfigError
from lift3d.render.maps import Maps, Renders
from lift3d.render.mesh import box_average
from lift3d.render.rasterize import get_rasterizer
from lift3d.scene.cameras import pixel_grid
from lift3d.scene.geometry import normalize
from lift3d.scene.images import to_uint8
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import keep_faces, report
from lift3d.scene.shading import Material, shade
from lift3d.synthetic import build_head_model as builder
from lift3d.synthetic.heads import (
    ASSET,
    MAX_RADIUS,
    SPLITS,
    load_head_model,
    sample_shape,
    stream,
)
from lift3d.synthetic.pack import head_images
from lift3d.synthetic.paint import attributes, eye_geometry, paint, sample_look, smoothstep
from lift3d.synthetic.render import (
    BACKGROUND,
    LIGHT_PRIOR,
    VIEW_PRIOR,
    VIEWS_PER_HEAD,
    render_head,
    render_painted,
    render_parameters,
)

MODEL = load_head_model()
NEUTRAL = np.zeros(len(MODEL.modes)), np.zeros(len(MODEL.expressions))
SIZE = 40


def head_mesh(split: str, head: int):
    shape = sample_shape(MODEL, split, head)
    return MODEL.mesh(shape.identity, shape.expression)


@pytest.fixture(scope="module")
def renders() -> Renders:
    return render_head("train", 5, SIZE, n_renders=2)


# --- the model


def test_the_asset_is_small_and_says_what_it_is() -> None:
    from safetensors import safe_open

    assert ASSET.stat().st_size <= 5_000_000
    with safe_open(ASSET, "numpy") as f:
        about = f.metadata()
    assert about["format"] == "lift3d-heads-1" and about["license"].startswith("CC0-1.0: made from MakeHuman")
    assert float(about["explained_variance"]) > 0.95


def test_parts_are_watertight_and_share_no_face() -> None:
    mesh = MODEL.mesh(*NEUTRAL)
    part = MODEL.part[mesh.faces]
    assert (part == part[:, :1]).all()
    components = {0: 1, 1: 1, 2: 2}  # skin, mouth interior, two eyes
    for kind, count in components.items():
        piece = report(keep_faces(mesh, part[:, 0] == kind))
        assert piece.solid and piece.n_components == count and piece.euler == 2 * count
    oracle = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert oracle.is_watertight and oracle.is_winding_consistent


def test_the_face_looks_towards_the_viewer() -> None:
    (x, y, z), radius = eye_geometry(MODEL)
    assert 0.15 < x < 0.35 and 0 < y < 0.2 and z > 0.3 and 0.05 < radius < 0.15
    lips = MODEL.mean[MODEL.regions[:, MODEL.region_names.index("lips")] > 0.5]
    assert abs(lips[:, 0].mean()) < 0.01 and lips[:, 1].mean() < y - 0.2 and lips[:, 2].min() > 0.3
    ears = MODEL.mean[MODEL.regions[:, MODEL.region_names.index("ears")] > 0.5]
    assert abs(ears[:, 0]).min() > x and ears[:, 2].mean() < z
    assert not MODEL.regions[MODEL.part != 0].any()
    assert 0 <= MODEL.regions.min() and MODEL.regions.max() <= 1
    eye = MODEL.mean[(MODEL.part == 2) & (MODEL.mean[:, 0] > 0)] - np.array((x, y, z))
    assert np.ptp(np.linalg.norm(eye, axis=1)) < 0.35 * radius


def test_modes_are_standard_deviations_of_a_linear_model() -> None:
    k = len(MODEL.modes)
    flat = MODEL.modes.reshape(k, -1).astype(np.float64)
    lengths = np.linalg.norm(flat, axis=1)
    assert (np.diff(lengths) < 0).all()  # principal components come in order
    cosines = (flat / lengths[:, None]) @ (flat / lengths[:, None]).T
    np.testing.assert_allclose(cosines, np.eye(k), atol=5e-3)  # orthogonal, but for half precision
    rng = np.random.default_rng(0)
    identity, expression = 0.3 * rng.normal(size=k), 0.3 * rng.random(len(MODEL.expressions))
    expected = MODEL.mean + sum(i * m for i, m in zip(identity, MODEL.modes))
    expected = expected + sum(e * m for e, m in zip(expression, MODEL.expressions))
    assert np.linalg.norm(expected, axis=1).max() < MAX_RADIUS
    np.testing.assert_allclose(MODEL.vertices(identity, expression), expected, atol=1e-6)


def test_every_head_stays_inside_the_ball_and_is_shrunk_into_it_where_it_would_not() -> None:
    shapes = [sample_shape(MODEL, split, i) for split in SPLITS for i in range(60)]
    radii = [np.linalg.norm(MODEL.vertices(s.identity, s.expression), axis=1).max() for s in shapes]
    assert max(radii) <= MAX_RADIUS + 1e-6 and min(radii) > 0.7
    wide = np.sign(MODEL.modes[:, np.linalg.norm(MODEL.mean, axis=1).argmax()] @ MODEL.mean[0]) * 6.0
    raw = MODEL.mean + np.tensordot(wide, MODEL.modes, 1)
    assert np.linalg.norm(raw, axis=1).max() > 1
    shrunk = MODEL.vertices(wide, NEUTRAL[1])
    scale = MAX_RADIUS / np.linalg.norm(raw, axis=1).max()
    np.testing.assert_allclose(shrunk, raw * scale, atol=1e-6)


@pytest.mark.parametrize("name", MODEL.expression_names)
def test_expressions_move_the_face_and_nothing_else(name: str) -> None:
    motion = np.linalg.norm(MODEL.expressions[MODEL.expression_names.index(name)], axis=1)
    moved = MODEL.mean[motion > 0.02 * motion.max()]
    assert 0.03 < motion.max() < 0.3 and len(moved) > 100
    assert moved[:, 2].min() > -0.1  # neither nape nor back of the head
    if name != "jaw_open":
        assert moved[:, 1].min() > -0.66  # nor the neck
    still = (MODEL.mean[:, 2] < -0.2) | (MODEL.mean[:, 1] > 0.7)
    assert still.sum() > 300 and not motion[still].any()


def test_normals_are_unit_and_point_outwards() -> None:
    mesh = head_mesh("train", 0)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    area = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).area
    step = np.float32(1e-3) * mesh.normals
    thick, thin = (report(replace(mesh, vertices=mesh.vertices + s)).volume for s in (step, -step))
    assert (thick - thin) / 2e-3 == pytest.approx(area, rel=0.03)  # the skin grows outwards


# --- random streams


def test_streams_are_functions_of_split_kind_and_index() -> None:
    first = {
        (split, kind, index): tuple(stream(split, kind, index).integers(2**62, size=2))
        for split in SPLITS
        for kind in ("shape", "look", *(f"{what} {k}" for what in ("view", "light") for k in range(4)))
        for index in (0, 1, 77)
    }
    assert len(set(first.values())) == len(first)
    for key, value in first.items():
        assert tuple(stream(*key).integers(2**62, size=2)) == value


def test_no_head_is_in_both_splits() -> None:
    train, benchmark = (
        np.stack([sample_shape(MODEL, split, i).identity for i in range(60)]) for split in SPLITS
    )
    assert np.abs(train[:, None] - benchmark[None]).max(-1).min() > 0.5
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(train, benchmark)]
    assert abs(np.mean(correlation)) < 0.05
    assert len({sample_look(split, i) for split in SPLITS for i in range(60)}) == 120


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown split 'test' of the heads, known are train, benchmark"):
        sample_shape(MODEL, "test", 0)


def test_identities_are_standard_normal_and_expressions_occasional() -> None:
    shapes = [sample_shape(MODEL, "train", i) for i in range(400)]
    identity = np.stack([s.identity for s in shapes])
    assert np.abs(identity).max() <= 2.5
    assert abs(identity.mean()) < 0.02 and abs(identity.std() - 1) < 0.03
    expression = np.stack([s.expression for s in shapes])
    assert expression.min() == 0 and expression.max() <= 0.9
    often = (expression > 0).mean(0)
    expected = {"smile": 0.45, "frown": 0.12, "jaw_open": 0.2, "pucker": 0.08, "blink": 0.15}
    for name, chance in expected.items():
        share = often[MODEL.expression_names.index(name)]
        assert abs(share - chance) < 3.5 * math.sqrt(chance * (1 - chance) / len(shapes))


def test_views_and_lights_have_the_spread_of_their_priors() -> None:
    pairs = [render_parameters("train", head, VIEWS_PER_HEAD) for head in range(90)]
    views, lights = (torch.cat(x) for x in zip(*pairs))
    spread = torch.tensor(VIEW_PRIOR.std)
    torch.testing.assert_close(views.std(0), spread, atol=1e-6, rtol=0.1)
    assert (views.abs() <= torch.tensor(VIEW_PRIOR.limit) + 1e-6).all()
    for column, bounds in ((1, LIGHT_PRIOR.diffuse), (2, LIGHT_PRIOR.l_x), (3, LIGHT_PRIOR.l_y)):
        width = bounds[1] - bounds[0]
        assert bounds[0] <= lights[:, column].min() and lights[:, column].max() <= bounds[1]
        assert abs(lights[:, column].std() / width * 12**0.5 - 1) < 0.08
    assert torch.corrcoef(torch.stack((views[:, 1], lights[:, 2]))).abs()[0, 1] < 0.15
    more, fewer = render_parameters("train", 3, 4), render_parameters("train", 3, 2)
    assert torch.equal(more[0][:2], fewer[0]) and torch.equal(more[1][:2], fewer[1])


# --- paint


def test_materials_stay_in_their_ranges() -> None:
    points = torch.from_numpy(attributes(MODEL))
    for index in range(25):
        m = paint(points, sample_look("train", index), MODEL)
        assert 0 <= m.albedo.min() and m.albedo.max() <= 1.02  # mottled pale skin may pass 1 by a little
        assert 0 < m.specular.min() and m.specular.max() <= 0.6 + 1e-6
        assert 4 <= m.shininess.min() and m.shininess.max() <= 80 + 1e-4


def test_regions_get_their_materials() -> None:
    look = replace(sample_look("train", 0), beard=0.0)
    points = torch.from_numpy(attributes(MODEL))
    m = paint(points, look, MODEL)

    def rgb(selected: np.ndarray) -> np.ndarray:
        return m.albedo[torch.from_numpy(selected)].numpy()

    lips = MODEL.regions[:, 0] > 0.9
    np.testing.assert_allclose(rgb(lips), np.broadcast_to(look.lips, (lips.sum(), 3)), atol=1e-6)
    back = (MODEL.mean[:, 2] < -0.4) & (MODEL.mean[:, 1] > 0)
    np.testing.assert_allclose(rgb(back), np.broadcast_to(look.hair, (back.sum(), 3)), atol=1e-6)
    np.testing.assert_allclose(rgb(MODEL.part == 1), np.array([[0.35, 0.12, 0.11]] * 226), atol=1e-6)
    eye = torch.from_numpy(MODEL.part == 2)
    torch.testing.assert_close(m.specular[eye], torch.full((144, 1), 0.6))
    (x, y, z), radius = eye_geometry(MODEL)
    pupil = torch.tensor([[x, y, z + radius, 0, 0, 0, 0, 1], [-x, y, z + radius, 0, 0, 0, 0, 1]])
    assert (paint(pupil, look, MODEL).albedo < 0.04).all()
    iris = pupil + torch.tensor([0.33 * radius, 0, 0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(paint(iris, look, MODEL).albedo, torch.tensor([look.iris] * 2).float())


def test_a_beard_covers_the_jaw_only() -> None:
    look = replace(sample_look("train", 0), beard=0.0)
    points = torch.from_numpy(attributes(MODEL))
    shaven, bearded = (paint(points, replace(look, beard=b), MODEL).albedo for b in (0.0, 0.8))
    changed = (shaven - bearded).abs().amax(1) > 1e-3
    where = points[changed]
    (_, eye_y, _), _ = eye_geometry(MODEL)
    assert changed.sum() > 50 and where[:, 1].max() < eye_y - 0.1 and where[:, 2].min() > -0.1
    assert not changed[torch.from_numpy(MODEL.regions[:, 0] > 0.99)].any()  # the lips stay free


def test_smoothstep_is_the_cubic_and_reverses() -> None:
    x = torch.tensor([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0])
    expected = [0, 0, 3 * 0.0625 - 2 * 0.015625, 0.5, 1, 1]
    assert smoothstep(0.0, 1.0, x).tolist() == pytest.approx(expected)
    torch.testing.assert_close(smoothstep(1.0, 0.0, x), 1 - smoothstep(0.0, 1.0, x))


# --- renders


def test_two_renders_are_bit_identical_however_many_there_are(renders: Renders) -> None:
    again = render_head("train", 5, SIZE, n_renders=1)[0]
    assert torch.equal(again.view, renders[0].view) and torch.equal(again.light, renders[0].light)
    for f in fields(Maps):
        assert torch.equal(getattr(again.maps, f.name), getattr(renders[0].maps, f.name)), f.name
    other = render_head("benchmark", 5, SIZE, n_renders=1)[0]
    assert not torch.equal(other.image, renders[0].image)


def test_renders_share_the_head_and_differ_in_view_and_light(renders: Renders) -> None:
    first, second = renders
    assert not torch.equal(first.view, second.view) and not torch.equal(first.light, second.light)
    for name in ("albedo", "specular", "shininess"):
        a, b = (getattr(t.maps, name)[t.maps.mask] for t in renders)
        assert abs(a.mean() - b.mean()) < 0.25 * a.mean()


def test_maps_are_zero_outside_the_mask_and_the_image_white(renders: Renders) -> None:
    for render in renders:
        maps = render.maps
        assert torch.equal(maps.mask, maps.depth > 0)
        assert 0.3 < maps.mask.float().mean() < 0.8
        torch.testing.assert_close(maps.normals.norm(dim=-1), maps.mask.float())
        for name in ("normals", "albedo", "specular", "shininess"):
            assert not getattr(maps, name)[~maps.mask].any(), name
        assert 0 <= render.image.min() and render.image.max() <= 1
        border = torch.nn.functional.max_pool2d(maps.mask[None].float(), 3, 1, 1)[0] == 0
        assert torch.equal(render.image[border], torch.full_like(render.image[border], BACKGROUND))


def test_depth_reprojects_onto_the_mesh(renders: Renders) -> None:
    mesh = head_mesh("train", 5)
    oracle = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    render = renders[1]
    cameras = render.cameras
    origins, directions = cameras.rays(pixel_grid(SIZE), SIZE)
    inside = render.maps.mask.flatten()
    per_distance = -(directions @ cameras.rotation.mT)[..., 2:]  # z-depth of a unit step along the ray
    points = (origins + render.maps.depth.flatten()[:, None] / per_distance * directions)[inside][::17]
    _, distance, _ = trimesh.proximity.closest_point_naive(oracle, points.numpy())
    assert distance.max() < 1e-5
    torch.testing.assert_close(cameras.project(points, SIZE), pixel_grid(SIZE)[inside][::17])


def test_visible_normals_face_the_camera(renders: Renders) -> None:
    for render in renders:
        _, directions = render.cameras.rays(pixel_grid(SIZE), SIZE)
        facing = -(render.maps.normals.flatten(0, 1) * directions).sum(-1)[render.maps.mask.flatten()]
        assert (facing > 0).float().mean() > 0.98  # the others are smooth normals at folds and at the rim
        assert facing.mean() > 0.6


def test_the_image_is_the_shading_of_its_own_maps() -> None:
    shape, look = sample_shape(MODEL, "train", 5), sample_look("train", 5)
    mesh = MODEL.mesh(shape.identity, shape.expression)
    views, lights = render_parameters("train", 5, 1)
    rasterizer = get_rasterizer("embree")
    fine = render_painted(mesh, look, MODEL, views, lights, 2 * SIZE, 1, rasterizer)[0]
    _, directions = fine.cameras.rays(pixel_grid(2 * SIZE), 2 * SIZE)
    to_camera = -directions.view(2 * SIZE, 2 * SIZE, 3)
    maps = fine.maps
    material = Material(maps.albedo, maps.specular[..., None], maps.shininess[..., None])
    color = shade(normalize(maps.normals), to_camera, material, Lights.from_vector(lights[0])).clamp(0, 1)
    expected = torch.where(maps.mask[..., None], color, torch.tensor(BACKGROUND))
    torch.testing.assert_close(fine.image, expected, atol=2e-5, rtol=0)
    coarse = render_head("train", 5, SIZE, n_renders=1)[0]
    assert torch.equal(coarse.image, box_average(fine.image, 2))


def test_packed_images_are_the_renders() -> None:
    packed = head_images("train", 5, SIZE)
    assert packed.shape == (VIEWS_PER_HEAD, SIZE, SIZE, 3) and packed.dtype == np.uint8
    assert np.array_equal(packed[1], to_uint8(render_head("train", 5, SIZE)[1].image.numpy()))


# --- the builder


def tube() -> tuple[np.ndarray, np.ndarray]:
    """A closed tube of radius 0.05 along z, in anny's axes, that crosses the cutting plane."""
    mesh = trimesh.creation.capsule(height=1.0, radius=0.05, count=[12, 12])
    return mesh.vertices - mesh.vertices.mean(0), mesh.faces


def test_cutting_is_a_linear_map_that_keeps_what_is_above_and_closes_it() -> None:
    vertices, faces = tube()
    linear, new_faces = builder.cut_and_cap(vertices, faces, np.zeros(3))
    head = linear @ vertices
    mesh = trimesh.Trimesh(head, new_faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    height = head @ (0.0, -builder.CUT_NORMAL[0], builder.CUT_NORMAL[1])
    assert height.min() > -1e-9 and np.isclose(height, 0, atol=1e-9).sum() > 8
    assert mesh.volume == pytest.approx(trimesh.Trimesh(vertices, faces).volume / 2, rel=0.02)
    np.testing.assert_allclose(linear.sum(1), 1)  # affine: moves with the body
    shift = np.array((1.0, 2.0, 3.0))
    np.testing.assert_allclose(linear @ (vertices + shift), head + shift)


def test_parts_are_told_apart_by_size_and_place() -> None:
    big = trimesh.creation.icosphere(subdivisions=2, radius=1.0)
    left, right, middle = (trimesh.creation.icosphere(subdivisions=1, radius=0.1) for _ in range(3))
    left.apply_translation((-0.3, 0, 0))
    right.apply_translation((0.3, 0, 0))
    whole = trimesh.util.concatenate([big, left, right, middle])
    counts = [len(m.vertices) for m in (big, left, right, middle)]
    expected = np.repeat([builder.SKIN, builder.EYE, builder.EYE, builder.MOUTH], counts)
    assert np.array_equal(builder.parts(np.asarray(whole.faces), np.asarray(whole.vertices)), expected)


def test_axes_and_sizes_are_normalized() -> None:
    forward, up = builder.to_world(np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert forward.tolist() == [0, 0, 1] and up.tolist() == [0, 1, 0]
    heads = np.random.default_rng(0).normal(size=(3, 50, 3)) * np.array([1.0, 2.0, 3.0])[:, None, None] + 5
    same = builder.normalize(heads)
    np.testing.assert_allclose(np.sqrt((same**2).sum(-1).mean(1)), 1)
    np.testing.assert_allclose(same.max(1), -same.min(1))


def test_the_builder_names_what_the_model_holds() -> None:
    assert MODEL.expression_names == tuple(builder.EXPRESSIONS)
    assert MODEL.region_names == builder.REGIONS
    assert len(MODEL.modes) == builder.N_MODES
    assert np.linalg.norm(MODEL.mean, axis=1).max() == pytest.approx(builder.MEAN_RADIUS, abs=1e-5)
