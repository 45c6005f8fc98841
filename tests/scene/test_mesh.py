"""Mesh operations against trimesh (external oracle), closed forms and hand-made defects."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from lift3d.errors import BackendUnavailable, ConfigError, Lift3DError
from lift3d.scene.mesh import (
    Mesh,
    clean,
    consistent_winding,
    decimate,
    drop_unreferenced,
    face_components,
    largest_component,
    report,
    vertex_normals,
)


def mesh_of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32))


def sphere(subdivisions: int = 2, center: float = 0.0, radius: float = 0.5) -> Mesh:
    mesh = mesh_of(trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius))
    return replace(mesh, vertices=mesh.vertices + np.float32([center, 0, 0]))


def join(*meshes: Mesh) -> Mesh:
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]).astype(
            np.int32
        ),
    )


def moebius(n: int = 12) -> Mesh:
    """A strip of quads with a half twist."""
    angle = np.arange(n) * 2 * np.pi / n
    side = (
        np.stack(
            (np.cos(angle / 2) * np.cos(angle), np.cos(angle / 2) * np.sin(angle), np.sin(angle / 2)), -1
        )
        * 0.2
    )
    ring = np.stack((np.cos(angle), np.sin(angle), 0 * angle), -1)
    i, j = np.arange(n), (np.arange(n) + 1) % n
    a, b, c, d = i, i + n, j + n * (j == 0), j + n * (j != 0)  # the last quad crosses over
    faces = np.concatenate((np.stack((a, c, b), -1), np.stack((b, c, d), -1)))
    return Mesh(np.concatenate((ring - side, ring + side)).astype(np.float32), faces.astype(np.int32))


SHAPES = {
    "sphere": trimesh.creation.icosphere(subdivisions=2),
    "torus": trimesh.creation.torus(0.6, 0.2, major_sections=12, minor_sections=8),
    "box": trimesh.creation.box(),
    "annulus": trimesh.creation.annulus(0.2, 0.5, 0.3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_report_agrees_with_trimesh(name):
    shape, found = SHAPES[name], report(mesh_of(SHAPES[name]))
    assert found.watertight == shape.is_watertight and found.solid == shape.is_volume
    assert found.euler == shape.euler_number and found.n_components == shape.body_count
    assert found.volume == pytest.approx(shape.volume, rel=1e-5)
    assert found.n_edges == len(shape.edges_unique)


@pytest.mark.parametrize("name", ["sphere", "torus"])
def test_vertex_normals_agree_with_a_loop(name):
    mesh = mesh_of(SHAPES[name])
    total = np.zeros_like(mesh.vertices, np.float64)
    for a, b, c in mesh.faces:
        normal = np.cross(mesh.vertices[b] - mesh.vertices[a], mesh.vertices[c] - mesh.vertices[a])
        total[[a, b, c]] += normal
    expected = total / np.linalg.norm(total, axis=-1, keepdims=True)
    np.testing.assert_allclose(vertex_normals(mesh), expected, atol=1e-5)


def test_vertex_normals_of_a_sphere_point_outwards_and_stray_vertices_have_none():
    mesh = sphere(3)
    mesh = replace(mesh, vertices=np.concatenate((mesh.vertices, np.float32([[9, 9, 9]]))))
    normals = vertex_normals(mesh)
    assert (normals[:-1] * mesh.vertices[:-1]).sum(-1).min() > 0.5 * 0.999
    assert (normals[-1] == 0).all()


def test_report_counts_defects():
    whole = sphere(1)
    hole = report(replace(whole, faces=whole.faces[1:]))
    assert (hole.boundary_edges, hole.watertight, hole.solid) == (3, False, False)
    turned = whole.faces.copy()
    turned[0] = turned[0, ::-1]
    found = report(replace(whole, faces=turned))
    assert (found.inconsistent_edges, found.watertight, found.solid) == (3, True, False)
    fin = np.concatenate((whole.faces, [[whole.faces[0, 0], whole.faces[0, 1], len(whole.vertices)]])).astype(
        np.int32
    )
    finned = Mesh(np.concatenate((whole.vertices, np.ones((1, 3), np.float32))), fin)
    assert (report(finned).nonmanifold_edges, report(finned).boundary_edges) == (1, 2)
    inward = report(replace(whole, faces=whole.faces[:, ::-1]))
    assert inward.watertight and not inward.solid and inward.volume < 0
    assert report(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))).watertight is False


def test_attributes_follow_their_vertices():
    mesh = join(sphere(1, 2.0, 0.1), sphere(2))
    n = len(mesh.vertices)
    tag = np.arange(n, dtype=np.float32)
    mesh = replace(mesh, albedo=np.repeat(tag[:, None], 3, 1), specular=tag, shininess=tag)
    kept = largest_component(mesh)
    assert len(kept.faces) == len(sphere(2).faces)
    np.testing.assert_array_equal(kept.vertices, mesh.vertices[kept.specular.astype(int)])
    np.testing.assert_array_equal(kept.albedo[:, 2], kept.shininess)
    assert kept.normals is None and report(kept).solid


def test_largest_is_by_area_not_by_count():
    mesh = join(sphere(3, 2.0, 0.1), sphere(1))
    assert len(np.unique(face_components(mesh))) == 2
    assert len(largest_component(mesh).faces) == len(sphere(1).faces)


def test_drop_unreferenced_keeps_order_and_shape():
    mesh = Mesh(np.arange(15, dtype=np.float32).reshape(5, 3), np.int32([[4, 1, 3]]))
    small = drop_unreferenced(mesh)
    np.testing.assert_array_equal(small.vertices, mesh.vertices[[1, 3, 4]])
    np.testing.assert_array_equal(small.faces, [[2, 0, 1]])


@pytest.mark.parametrize("name", SHAPES)
def test_winding_is_restored_from_any_scramble(name):
    mesh = mesh_of(SHAPES[name])
    flip = np.random.default_rng(0).random(len(mesh.faces)) < 0.5
    scrambled = replace(mesh, faces=np.where(flip[:, None], mesh.faces[:, ::-1], mesh.faces))
    assert not report(scrambled).solid
    restored = consistent_winding(scrambled)
    assert report(restored).solid
    assert restored.faces.dtype == np.int32
    canonical = [np.array([np.roll(f, -f.argmin()) for f in m.faces]) for m in (restored, mesh)]
    np.testing.assert_array_equal(*canonical)


def test_winding_of_every_component_is_outward():
    mesh = join(sphere(1), sphere(1, 3.0))
    mesh = replace(mesh, faces=np.concatenate((mesh.faces[:80, ::-1], mesh.faces[80:])))
    assert report(consistent_winding(mesh)).volume == pytest.approx(2 * report(sphere(1)).volume, rel=1e-5)


def test_one_sided_surface_is_an_error():
    with pytest.raises(Lift3DError, match="24 faces lie on a one-sided surface"):
        consistent_winding(moebius())


def test_clean_repairs_everything_at_once():
    good, crumb = sphere(2), sphere(1, 3.0, 0.05)
    mesh = join(replace(good, faces=good.faces[:, ::-1]), crumb)
    faces = np.concatenate((mesh.faces, [[0, 0, 1]])).astype(np.int32)
    cleaned = clean(replace(mesh, faces=faces))
    assert report(cleaned).solid and report(cleaned).n_components == 1
    assert len(cleaned.vertices) == len(good.vertices)
    again = clean(cleaned)
    np.testing.assert_array_equal(again.faces, cleaned.faces)
    np.testing.assert_array_equal(again.vertices, cleaned.vertices)


def test_threads_decimate_meshes_of_their_own():
    pytest.importorskip("fast_simplification")
    meshes = [sphere(5, 0.0, 1.0 + i) for i in range(4)]
    with ThreadPoolExecutor(2) as threads:
        several = list(threads.map(lambda mesh: decimate(mesh, 2000), 3 * meshes))
    for found, mesh in zip(several, 3 * meshes, strict=True):
        np.testing.assert_array_equal(found.vertices, decimate(mesh, 2000).vertices)


def test_decimate_keeps_shape_and_attributes():
    pytest.importorskip("fast_simplification")
    mesh = sphere(4)
    direction = mesh.vertices / 0.5
    mesh = replace(mesh, normals=direction, albedo=0.5 + 0.5 * direction, specular=direction[:, 2] ** 2)
    small = decimate(mesh, 500)
    assert abs(len(small.faces) - 500) <= 10 and report(small).solid
    assert report(small).volume == pytest.approx(report(mesh).volume, rel=0.02)
    expected = small.vertices / np.linalg.norm(small.vertices, axis=-1, keepdims=True)
    assert (small.normals * expected).sum(-1).min() > 0.995
    np.testing.assert_allclose(small.albedo, 0.5 + 0.5 * expected, atol=0.05)
    assert small.specular.dtype == np.float32 and small.specular.shape == (len(small.vertices),)


def test_decimate_returns_a_small_mesh_as_it_is():
    mesh = sphere(1)
    assert decimate(mesh, len(mesh.faces)) is mesh


def test_decimate_needs_a_number_and_a_package(monkeypatch):
    with pytest.raises(ConfigError, match="decimate: 2 faces asked for, expected at least 4"):
        decimate(sphere(1), 2)
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(BackendUnavailable, match="pip install fast-simplification") as error:
        decimate(sphere(1), 20)
    assert isinstance(error.value.__cause__, ImportError)
