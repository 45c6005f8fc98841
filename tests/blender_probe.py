"""Run in Blender by test_blender.py: what is in a .blend file, and what Blender makes of our other files.

python blender_probe.py FILE OUT        OUT.json: facts; OUT.npz: arrays
"""

import json
import sys

import bpy
import numpy as np


def arrays_of(mesh: bpy.types.Mesh) -> dict[str, np.ndarray]:
    """Vertices, corner normals, faces and attributes of points and corners."""

    def read(items: object, name: str, width: int) -> np.ndarray:
        values = np.empty(len(items) * width, np.int32 if name == "vertex_index" else np.float32)
        items.foreach_get(name, values)
        return values.reshape(-1, width)

    found = {
        "vertices": read(mesh.vertices, "co", 3),
        "corner_normals": read(mesh.corner_normals, "vector", 3),
        "corners": read(mesh.loops, "vertex_index", 1)[:, 0],
    }
    for attribute in mesh.attributes:
        if attribute.data_type == "FLOAT":
            found[attribute.name] = read(attribute.data, "value", 1)[:, 0]
        if attribute.data_type in ("FLOAT_COLOR", "BYTE_COLOR"):
            found[attribute.name] = read(attribute.data, "color", 4)
        if attribute.data_type == "FLOAT2":
            found[attribute.name] = read(attribute.data, "vector", 2)
    return found


def facts() -> dict:
    """What the scene is made of."""
    scene = bpy.context.scene
    return {
        "version": bpy.app.version_string,
        "camera": scene.camera and scene.camera.name,
        "cameras": sorted(o.name for o in bpy.data.objects if o.type == "CAMERA"),
        "suns": {o.name: [o.hide_render, o["ambient"]] for o in bpy.data.objects if o.type == "LIGHT"},
        "expressions": [
            curve.driver.is_simple_expression
            for item in bpy.data.objects
            if item.animation_data
            for curve in item.animation_data.drivers
        ],
        "images": {
            i.name: [i.filepath, bool(i.packed_file), i.colorspace_settings.name] for i in bpy.data.images
        },
        "engine": scene.render.engine,
        "view_transform": scene.view_settings.view_transform,
        "size": [scene.render.resolution_x, scene.render.resolution_y],
        "matrices": {o.name: [list(row) for row in o.matrix_world] for o in bpy.data.objects},
        "nodes": {
            node.bl_idname: {
                socket.name: [link.from_node.bl_idname for link in socket.links] or plain(socket)
                for socket in node.inputs
            }
            for material in bpy.data.materials
            if material.use_nodes
            for node in material.node_tree.nodes
        },
    }


def plain(socket: bpy.types.NodeSocket) -> object:
    """An input's value as JSON has it."""
    value = getattr(socket, "default_value", None)
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


OPEN = {
    "blend": bpy.ops.wm.open_mainfile,
    "glb": bpy.ops.import_scene.gltf,
    "obj": bpy.ops.wm.obj_import,
    "ply": bpy.ops.wm.ply_import,
}

if __name__ == "__main__":
    path, out = sys.argv[-2:]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    OPEN[path.rsplit(".", 1)[1]](filepath=path)
    bpy.context.view_layer.update()
    (head,) = [item for item in bpy.data.objects if item.type == "MESH"]
    head.data.transform(head.matrix_world)
    np.savez(out + ".npz", **arrays_of(head.data))
    with open(out + ".json", "w") as file:
        json.dump(facts(), file)
