"""Makes scenes in Blender and renders them: run by Blender, or by a Python that has bpy, never imported.

    blender -b --factory-startup -P scene.py -- job.json
    python scene.py job.json

A job (``lift3d.export.blender.blend``) says its ``task`` and is in Blender's axes and units. A sun's ambient
light is its custom property ``ambient``; the material emits albedo x the sum of it over the suns that are not
hidden in renders, so that showing another sun changes the whole light. Suns cast no shadows and light does
not bounce, because lift3d knows neither.
"""

import json
import sys

import bpy
import numpy as np
from mathutils import Matrix, Vector

OLDEST = (4, 2, 0)


def build(job):
    """The scene of a job, saved to job["out"]."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    head = make_mesh(np.load(job["mesh"]))
    scene.collection.objects.link(head)
    cameras = [make_camera(scene, job, camera) for camera in job["cameras"]]
    suns = [make_sun(scene, job, light, visible=i == 0) for i, light in enumerate(job["lights"])]
    nodes = Nodes(suns, {role: load_image(path) for role, path in job.get("images", {}).items()})
    head.data.materials.append(MATERIALS[job["material"]](nodes))
    scene.camera = cameras[0]
    set_up_render(scene, job["size"])
    bpy.ops.wm.save_as_mainfile(filepath=job["out"], compress=True)


def make_mesh(arrays):
    """An object of the arrays: positions, smooth normals, materials as attributes of its points."""
    vertices, faces = arrays["vertices"], arrays["faces"]
    mesh = bpy.data.meshes.new("lift3d")
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", vertices.ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    mesh.update(calc_edges=True)
    if "albedo" in arrays:
        opaque = np.ones((len(vertices), 1), np.float32)
        color = mesh.attributes.new("albedo", "FLOAT_COLOR", "POINT")
        color.data.foreach_set("color", np.hstack((arrays["albedo"], opaque)).ravel())
    for name in ("specular", "shininess"):
        if name in arrays:
            mesh.attributes.new(name, "FLOAT", "POINT").data.foreach_set("value", arrays[name])
    if "uv" in arrays:
        upwards = arrays["uv"] * (1, -1) + (0, 1)
        places = upwards[faces.ravel()].astype(np.float32)
        mesh.uv_layers.new(name="UVMap").uv.foreach_set("vector", places.ravel())
    mesh.normals_split_custom_set_from_vertices(arrays["normals"])
    return bpy.data.objects.new("lift3d", mesh)


def make_camera(scene, job, told):
    """A camera; its lens is in mm on a square sensor."""
    data = bpy.data.cameras.new(told["name"])
    data.sensor_fit, data.sensor_width, data.lens = "HORIZONTAL", job["sensor"], job["lens"]
    data.clip_start, data.clip_end = told["clip"]
    data.display_size = 0.3 * job["scale"]
    camera = bpy.data.objects.new(told["name"], data)
    camera.matrix_world = Matrix(told["matrix"])
    scene.collection.objects.link(camera)
    return camera


def make_sun(scene, job, told, visible):
    """A sun without size or shadow. Where it stands does not matter; it stands where it shines from."""
    data = bpy.data.lights.new(told["name"], "SUN")
    data.energy, data.angle, data.use_shadow = told["energy"], 0.0, False
    if hasattr(data.cycles, "cast_shadow"):
        data.cycles.cast_shadow = False
    sun = bpy.data.objects.new(told["name"], data)
    to_light = Vector(told["to_light"])
    sun.matrix_world = (
        Matrix.Translation(to_light * 1.5 * job["scale"])
        @ to_light.to_track_quat("Z", "Y").to_matrix().to_4x4()
    )
    sun.hide_render = sun.hide_viewport = not visible
    sun["ambient"], sun["ambient shown"] = told["ambient"], 0.0
    driver = sun.driver_add('["ambient shown"]').driver
    add_variable(driver, "ambient", sun, '["ambient"]')
    add_variable(driver, "hidden", sun, "hide_render")
    driver.expression = "ambient * (1 - hidden)"  # simple enough to work where files may not run Python
    scene.collection.objects.link(sun)
    return sun


def add_variable(driver, name, item, path):
    """An object's property as a variable of a driver."""
    variable = driver.variables.new()
    variable.name = name
    variable.targets[0].id, variable.targets[0].data_path = item, path


def load_image(path):
    """A picture of data, not colors, kept inside the file."""
    image = bpy.data.images.load(path)
    image.colorspace_settings.name = "Non-Color"
    image.pack()
    image.filepath = "//" + image.name
    return image


class Nodes:
    """A material's node tree: ``put`` makes nodes and links what is given to their inputs."""

    def __init__(self, suns, images):
        self.suns, self.images = suns, images
        self.material = bpy.data.materials.new("lift3d")
        self.material.use_nodes = True
        self.material.cycles.emission_sampling = "NONE"  # the head is no lamp; as one it would add noise
        self.material.cycles.use_bump_map_correction = False  # would darken what a normal map turns
        self.tree = self.material.node_tree
        self.tree.nodes.clear()

    def put(self, kind, inputs=(), **settings):
        """A node; inputs by name or number are sockets to link or values."""
        node = self.tree.nodes.new("ShaderNode" + kind)
        for name, value in settings.items():
            setattr(node, name, value)
        for name, value in dict(inputs).items():
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, node.inputs[name])
            else:
                node.inputs[name].default_value = value
        return node

    def math(self, operation, *values):
        """A number computed from sockets and numbers."""
        return self.put("Math", dict(enumerate(values)), operation=operation).outputs[0]

    def picture(self, role):
        """The color of a picture at the surface."""
        return self.put("TexImage", image=self.images[role]).outputs["Color"]

    def surface(self):
        """Albedo, specular intensity, Phong exponent and roughness (2 p + 1)^(-1/4) of the surface."""
        if self.images:
            albedo = self.picture("albedo")
            parts = self.put("SeparateColor", {"Color": self.picture("specular roughness")}).outputs
            specular, roughness = parts["Red"], parts["Green"]
            shininess = self.math("MULTIPLY_ADD", self.math("POWER", roughness, -4.0), 0.5, -0.5)
            return albedo, specular, shininess, roughness
        albedo = self.put("Attribute", attribute_name="albedo").outputs["Color"]
        specular, shininess = (
            self.put("Attribute", attribute_name=name).outputs["Fac"] for name in ("specular", "shininess")
        )
        roughness = self.math("POWER", self.math("MULTIPLY_ADD", shininess, 2.0, 1.0), -0.25)
        return albedo, specular, shininess, roughness

    def normal(self):
        """The input "Normal" of a shader, if there is a picture of normals in tangent space."""
        if "normal" not in self.images:
            return {}
        node = self.put("NormalMap", {"Color": self.picture("normal")}, uv_map="UVMap")
        return {"Normal": node.outputs[0]}

    def ambient(self):
        """The ambient light of all suns that are not hidden."""
        node = self.put("Value", label="ambient")
        driver = node.outputs[0].driver_add("default_value").driver
        driver.type = "SUM"
        for i, sun in enumerate(self.suns):
            add_variable(driver, f"light_{i}", sun, '["ambient shown"]')
        seen = self.put("LightPath").outputs["Is Camera Ray"]  # else the head would light its own folds
        return self.math("MULTIPLY", node.outputs[0], seen)

    def finish(self, shader):
        """The material, once the shader is known."""
        self.put("OutputMaterial", {"Surface": shader})
        for i, node in enumerate(self.tree.nodes):
            node.location = (220 * (i % 6), -260 * (i // 6))
        return self.material


def exact(nodes):
    """Diffuse, a lobe (n.h)^(4 p) of Phong's height and width, and the ambient light as emission."""
    (albedo, specular, shininess, roughness), normal = nodes.surface(), nodes.normal()
    peak = nodes.math(
        "DIVIDE", nodes.math("MULTIPLY", specular, 8.0), nodes.math("MULTIPLY_ADD", shininess, 4.0, 1.0)
    )
    diffuse = nodes.put("BsdfDiffuse", normal | {"Color": albedo}).outputs[0]
    lobe = normal | {"Color": peak, "Roughness": roughness}
    glossy = nodes.put("BsdfAnisotropic", lobe, distribution="ASHIKHMIN_SHIRLEY").outputs[0]
    emission = nodes.put("Emission", {"Color": albedo, "Strength": nodes.ambient()}).outputs[0]
    both = nodes.put("AddShader", {0: diffuse, 1: glossy}).outputs[0]
    return nodes.finish(nodes.put("AddShader", {0: both, 1: emission}).outputs[0])


def pbr(nodes):
    """Principled: roughness and F0 = 2.6 k / (p + 2) of ``lift3d.export.meshes.pbr``, and the ambient light
    as emission. Principled takes from the diffuse light what it reflects, about 0.9 F0 + 0.015 (measured);
    the base color makes up for it.
    """
    albedo, specular, shininess, roughness = nodes.surface()
    f0 = nodes.math("DIVIDE", nodes.math("MULTIPLY", specular, 2.6), nodes.math("ADD", shininess, 2.0))
    kept = nodes.math("MAXIMUM", nodes.math("MULTIPLY_ADD", f0, -0.9, 0.985), 0.1)
    factor = nodes.math("DIVIDE", 1.0, kept)
    base = nodes.put("VectorMath", {0: albedo, "Scale": factor}, operation="SCALE").outputs[0]
    inputs = nodes.normal() | {
        "Base Color": base,
        "Metallic": 0.0,
        "Roughness": roughness,
        "IOR": 1.5,
        "Specular IOR Level": nodes.math("DIVIDE", f0, 0.08),
        "Emission Color": albedo,
        "Emission Strength": nodes.ambient(),
    }
    return nodes.finish(nodes.put("BsdfPrincipled", inputs).outputs[0])


MATERIALS = {"exact": exact, "pbr": pbr}


def set_up_render(scene, size):
    """Cycles without what lift3d has not, square images, values shown as they are, no world."""
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.use_denoising = "CPU", 64, False
    scene.cycles.pixel_filter_type = "BOX"
    for kind in ("max", "diffuse", "glossy", "transmission", "volume"):
        setattr(scene.cycles, f"{kind}_bounces", 0)
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.display_settings.display_device = "sRGB"
    scene.view_settings.view_transform, scene.view_settings.look = "Raw", "None"
    scene.world = bpy.data.worlds.new("black")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.0, 0.0, 0.0, 1.0)


def render(job):
    """Images [n, h, w, 4] of a file's cameras under its suns, one sun at a time, saved to job["out"]."""
    bpy.ops.wm.open_mainfile(filepath=job["blend"])
    scene = bpy.context.scene
    scene.cycles.samples = job["samples"]
    scene.render.threads_mode, scene.render.threads = "FIXED", job["threads"]
    images = scene.render.image_settings
    images.file_format, images.color_mode, images.color_depth = "OPEN_EXR", "RGBA", "32"
    scene.render.filepath = job["out"] + ".exr"
    suns = [item for item in scene.objects if item.type == "LIGHT"]
    shots = []
    for view, light in job["shots"]:
        scene.camera = scene.objects[view]
        for sun in suns:
            sun.hide_render = sun.name != light
        bpy.ops.render.render(write_still=True)
        shots.append(pixels(scene.render.filepath))
    np.save(job["out"], np.stack(shots))


def pixels(path):
    """A picture file as floats [h, w, 4], rows downwards, values as they are."""
    image = bpy.data.images.load(path)
    image.colorspace_settings.name = "Non-Color"
    values = np.empty(4 * image.size[0] * image.size[1], np.float32)
    image.pixels.foreach_get(values)
    width, height = image.size
    bpy.data.images.remove(image)
    return values.reshape(height, width, 4)[::-1]


TASKS = {"build": build, "render": render}

if __name__ == "__main__":
    if bpy.app.version < OLDEST:
        raise RuntimeError(
            f"this is Blender {bpy.app.version_string}, expected 4.2 or newer; install another"
        )
    with open(sys.argv[-1], encoding="utf-8") as file:
        told = json.load(file)
    TASKS[told["task"]](told)
