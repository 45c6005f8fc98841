"""Meshes for other programs: lossless glTF, PLY and OBJ that trimesh reads as they were meant."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from gltf import floats, needs_validator, parts, verdict
from lifted_blobs import Blobs

from lift3d.errors import ConfigError, CorruptFile, Lift3DError
from lift3d.export.meshes.glb import read_glb, to_glb, write_glb
from lift3d.export.meshes.obj import write_obj
from lift3d.export.meshes.pbr import mean_lobe, reflectance, roughness
from lift3d.export.meshes.ply import write_ply
from lift3d.export.meshes.texture import bake, from_vertices
from lift3d.export.meshes.write import write_mesh
from lift3d.scene.color import srgb_to_linear
from lift3d.scene.mesh import Mesh, report


@pytest.fixture(scope="module")
def blob() -> Mesh:
    model = Blobs()
    return model.mesh(model.sample([3]).code[0])


@pytest.fixture
def bare(blob: Mesh) -> Mesh:
    return Mesh(blob.vertices, blob.faces)


def same(a: Mesh, b: Mesh) -> None:
    assert a.attributes().keys() == b.attributes().keys()
    np.testing.assert_array_equal(a.vertices, b.vertices)
    np.testing.assert_array_equal(a.faces, b.faces)
    for name, array in a.attributes().items():
        np.testing.assert_allclose(
            getattr(b, name), array, rtol=0, atol=1e-7 if name == "albedo" else 0, err_msg=name
        )


# --- glTF ---------------------------------------------------------------------------------------


def test_round_trip(blob: Mesh, bare: Mesh, tmp_path: Path) -> None:
    for mesh in (blob, bare, replace(bare, albedo=blob.albedo), replace(bare, shininess=blob.shininess)):
        write_glb(mesh, tmp_path / "a.glb")
        same(mesh, read_glb(tmp_path / "a.glb"))


def test_every_albedo_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    albedo = np.concatenate([rng.random((3000, 3)), np.linspace(0, 0.05, 3000).reshape(1000, 3)]).astype(
        np.float32
    )
    mesh = Mesh(
        rng.random((4000, 3)).astype(np.float32),
        np.arange(3999, dtype=np.int32).reshape(-1, 3),
        albedo=albedo,
    )
    write_glb(mesh, tmp_path / "a.glb")
    again = read_glb(tmp_path / "a.glb").albedo
    assert np.abs(again - albedo[:3999]).max() <= 6e-8
    assert (np.rint(again * 255) == np.rint(albedo[:3999] * 255)).all()


def test_structure(blob: Mesh) -> None:
    tree, data = parts(to_glb(blob))
    assert tree["asset"]["version"] == "2.0" and tree["asset"]["generator"].startswith("lift3d ")
    (primitive,) = tree["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0", "_KS", "_PHONG"}
    position = tree["accessors"][primitive["attributes"]["POSITION"]]
    assert (
        position["min"] == blob.vertices.min(0).tolist() and position["max"] == blob.vertices.max(0).tolist()
    )
    end = 0
    for view in tree["bufferViews"]:  # aligned, without gaps or overlaps
        assert view["byteOffset"] == end and view["byteOffset"] % 4 == 0
        end += view["byteLength"]
    assert tree["buffers"] == [{"byteLength": end}] and end == len(data)
    for accessor in tree["accessors"]:
        size = 4 * {"SCALAR": 1, "VEC3": 3}[accessor["type"]] * accessor["count"]
        assert size == tree["bufferViews"][accessor["bufferView"]]["byteLength"]
    np.testing.assert_allclose(floats(to_glb(blob), "COLOR_0"), srgb_to_linear(blob.albedo), atol=1e-7)


def test_material(blob: Mesh) -> None:
    tree, _ = parts(to_glb(replace(blob, shininess=np.full(len(blob.vertices), 7.5, np.float32))))
    (material,) = tree["materials"]
    assert material["doubleSided"] is False
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert material["pbrMetallicRoughness"]["roughnessFactor"] == pytest.approx(0.5)  # 16^(-1/4)
    specular = material["extensions"]["KHR_materials_specular"]
    f0 = 0.04 * specular["specularFactor"] * specular["specularColorFactor"][0]
    assert f0 == pytest.approx(float(np.mean(2.6 * blob.specular / 9.5)), rel=1e-6)
    assert tree["extensionsUsed"] == ["KHR_materials_specular"]


def test_unreferenced_vertices_are_left_out(blob: Mesh, tmp_path: Path) -> None:
    write_glb(replace(blob, faces=blob.faces[:10]), tmp_path / "a.glb")
    again = read_glb(tmp_path / "a.glb")
    assert len(again.vertices) == len(np.unique(blob.faces[:10]))
    np.testing.assert_array_equal(again.vertices[again.faces], blob.vertices[blob.faces[:10]])
    np.testing.assert_array_equal(again.specular[again.faces], blob.specular[blob.faces[:10]])


def test_an_empty_mesh_is_refused(blob: Mesh, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the mesh has no faces, expected a surface"):
        write_glb(replace(blob, faces=blob.faces[:0]), tmp_path / "a.glb")
    assert list(tmp_path.iterdir()) == []


def test_trimesh_reads_the_same(blob: Mesh, tmp_path: Path) -> None:
    write_glb(blob, tmp_path / "a.glb")
    scene = trimesh.load(tmp_path / "a.glb", process=False)
    (mesh,) = scene.geometry.values()
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), blob.vertices)
    np.testing.assert_array_equal(mesh.faces, blob.faces)
    np.testing.assert_allclose(mesh.vertex_normals, blob.normals, atol=1e-6)
    np.testing.assert_array_equal(mesh.vertex_attributes["_KS"].ravel(), blob.specular)
    assert mesh.is_watertight and mesh.volume > 0


def test_trimeshs_files_are_read(blob: Mesh, tmp_path: Path) -> None:
    other = trimesh.Trimesh(blob.vertices, blob.faces, process=False, vertex_colors=[255, 0, 51, 255])
    other.export(tmp_path / "other.glb")
    mesh = read_glb(tmp_path / "other.glb")
    np.testing.assert_array_equal(mesh.vertices, blob.vertices)
    np.testing.assert_array_equal(mesh.faces, blob.faces)
    assert (
        mesh.albedo[0, 0] == 1 and mesh.albedo[0, 1] == 0 and 0.4 < mesh.albedo[0, 2] < 0.6
    )  # 0.2 is linear


def test_damaged_files_are_one_sentence(blob: Mesh, tmp_path: Path) -> None:
    path, data = tmp_path / "a.glb", to_glb(blob)
    rng = np.random.default_rng(0)
    for n in (0, 3, 12, 19, 300, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:n])
        with pytest.raises(CorruptFile, match=r"a.glb is not a whole glTF binary file with a mesh"):
            read_glb(path)
    text = 20 + struct.unpack_from("<I", data, 12)[0]
    for _ in range(300):  # any byte of header and JSON
        broken = bytearray(data)
        broken[rng.integers(text)] = rng.integers(256)
        path.write_bytes(broken)
        try:
            read_glb(path)
        except CorruptFile:
            pass
    tree, binary = parts(data)
    for change in (
        lambda t: t["accessors"][0].update(count=10**9),
        lambda t: t["accessors"][0].update(count=0),
        lambda t: t["bufferViews"][0].update(byteOffset=-4),
        lambda t: t["meshes"].clear(),
        lambda t: t["meshes"][0]["primitives"][0]["attributes"].pop("POSITION"),
        lambda t: t["meshes"][0]["primitives"][0].update(indices=0),
    ):
        damaged = json.loads(json.dumps(tree))
        change(damaged)
        text = json.dumps(damaged).encode()
        text += b" " * (-len(text) % 4)
        body = (
            struct.pack("<I4s", len(text), b"JSON")
            + text
            + struct.pack("<I4s", len(binary), b"BIN\0")
            + binary
        )
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
        with pytest.raises(CorruptFile, match="export it again"):
            read_glb(path)
    with pytest.raises(CorruptFile, match="No such file"):
        read_glb(tmp_path / "nowhere.glb")


@needs_validator
def test_the_khronos_validator_is_content(blob: Mesh, bare: Mesh, tmp_path: Path) -> None:
    for mesh in (blob, bare):
        write_glb(mesh, tmp_path / "a.glb")
        assert verdict(tmp_path / "a.glb") == (0, 0, 0)


# --- PLY and OBJ --------------------------------------------------------------------------------


def test_ply(blob: Mesh, bare: Mesh, tmp_path: Path) -> None:
    write_ply(blob, tmp_path / "a.ply")
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), blob.vertices)
    np.testing.assert_array_equal(mesh.faces, blob.faces)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], np.rint(blob.albedo * 255))
    np.testing.assert_allclose(mesh.vertex_normals, blob.normals, atol=1e-6)
    raw = mesh.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(raw["ks"].ravel(), blob.specular)
    np.testing.assert_array_equal(raw["phong"].ravel(), blob.shininess)
    assert mesh.volume > 0
    write_ply(bare, tmp_path / "a.ply")
    assert len(trimesh.load(tmp_path / "a.ply", process=False).faces) == len(bare.faces)


def test_obj(blob: Mesh, bare: Mesh, tmp_path: Path) -> None:
    write_obj(blob, tmp_path / "a.obj")
    mesh = trimesh.load(tmp_path / "a.obj", process=False, maintain_order=True)
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), blob.vertices)
    np.testing.assert_array_equal(mesh.faces, blob.faces)
    rows = [line.split() for line in (tmp_path / "a.obj").read_text().splitlines() if line.startswith("v ")]
    np.testing.assert_array_equal(np.array(rows)[:, 4:].astype(np.float32), blob.albedo)
    material = dict(line.split(" ", 1) for line in (tmp_path / "a.mtl").read_text().splitlines())
    assert float(material["Pr"]) == pytest.approx(mean_lobe(blob)[0])
    assert float(material["Ns"]) == pytest.approx(blob.shininess.mean())
    assert float(material["Ks"].split()[0]) == pytest.approx(mean_lobe(blob)[1] / 0.08)
    np.testing.assert_allclose(
        np.array(material["Kd"].split(), float), srgb_to_linear(blob.albedo).mean(0), atol=1e-6
    )
    write_obj(bare, tmp_path / "a.obj")
    assert len(trimesh.load(tmp_path / "a.obj", process=False).faces) == len(bare.faces)


def test_phong_in_physical_words() -> None:
    p = np.array([10.0, 30.0, 100.0])
    np.testing.assert_allclose(
        roughness(p), [0.467, 0.358, 0.266], atol=6e-4
    )  # measured best: .464-.483, .365-.380, .274-.285
    np.testing.assert_allclose(reflectance(np.ones(3), p), [0.217, 0.081, 0.0255], atol=5e-4)
    assert mean_lobe(Mesh(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32))) == (1.0, 0.0)


@pytest.mark.parametrize(("write", "suffix"), [(write_glb, ".glb"), (write_ply, ".ply"), (write_obj, ".obj")])
def test_refused_paths(blob: Mesh, tmp_path: Path, write, suffix: str) -> None:
    with pytest.raises(ConfigError, match=f"head.txt does not end in {suffix}; give a name that does"):
        write(blob, tmp_path / "head.txt")
    with pytest.raises(Lift3DError, match="cannot write .*No such file or directory"):
        write(blob, tmp_path / "no" / f"head{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_a_mesh_saves_itself_by_the_name_of_its_file(suffix: str, tmp_path: Path) -> None:
    mesh = Blobs().mesh(torch.zeros(4))
    mesh.save(tmp_path / f"ball{suffix}")
    again = trimesh.load(tmp_path / f"ball{suffix}", force="mesh")
    assert abs(abs(again.volume) - abs(report(mesh).volume)) < 1e-4 and repr(mesh).startswith(
        "Mesh(162 vertices"
    )


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl"])
def test_any_axis_points_up_in_any_format(blob: Mesh, suffix: str, tmp_path: Path) -> None:
    for up in ("y", "z"):
        write_mesh(tmp_path / f"{up}{suffix}", blob, up=up)
    y, z = (trimesh.load(tmp_path / f"{up}{suffix}", process=False, force="mesh") for up in ("y", "z"))
    np.testing.assert_allclose(y.bounds, [blob.vertices.min(0), blob.vertices.max(0)], atol=1e-6)
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0])  # y becomes z
    np.testing.assert_allclose(y.copy().apply_transform(turn).triangles, z.triangles, atol=1e-6)
    with pytest.raises(ConfigError, match="up is 'x', expected one of y, z"):
        write_mesh(tmp_path / f"x{suffix}", blob, up="x")


def test_glb_files_are_y_up(blob: Mesh, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="up is 'z', but .glb files are y-up by their standard"):
        write_mesh(tmp_path / "a.glb", blob, up="z")


def test_write_mesh_refuses_what_a_format_cannot_hold(tmp_path: Path) -> None:
    mesh = Blobs().mesh(torch.zeros(4))
    with pytest.raises(ConfigError, match=r"ball.xyz has no known mesh format, expected one of .glb, .obj"):
        write_mesh(tmp_path / "ball.xyz", mesh)
    cut, textures = bake(mesh, 64, from_vertices(mesh))
    with pytest.raises(ConfigError, match=r".ply files hold no textures; write a .glb or .obj file"):
        write_mesh(tmp_path / "ball.ply", cut, textures)
    assert not list(tmp_path.iterdir())
