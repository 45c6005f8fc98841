"""Run in Blender by test_blender.py: puts a GLB file's mesh into lift3d's setting and saves a .blend file.

    python blender_setting.py SCENE_SCRIPT JOB

The job is one of ``lift3d.export.blender.blend`` with "glb" in place of its mesh. The material is as
Blender has imported it, but pictures are read as data, since lift3d's colors are display-referred.
"""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location

import bpy

if __name__ == "__main__":
    script, told = sys.argv[-2:]
    spec = spec_from_file_location("blender_scene", script)
    setting = module_from_spec(spec)
    spec.loader.exec_module(setting)
    with open(told) as file:
        job = json.load(file)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=job["glb"])
    for image in bpy.data.images:
        image.colorspace_settings.name = "Non-Color"
    scene = bpy.context.scene
    cameras = [setting.make_camera(scene, job, camera) for camera in job["cameras"]]
    for i, light in enumerate(job["lights"]):
        setting.make_sun(scene, job, light, visible=i == 0)
    scene.camera = cameras[0]
    setting.set_up_render(scene, job["size"])
    bpy.ops.wm.save_as_mainfile(filepath=job["out"])
