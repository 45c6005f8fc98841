"""glTF binary files as others see them: read apart by hand, and judged by Khronos' validator."""

import io
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy import ndarray
from PIL import Image

VALIDATOR = os.environ.get("LIFT3D_GLTF_VALIDATOR")  # folder with node_modules/gltf-validator
PROGRAM = (
    "const v = require('gltf-validator'), fs = require('fs');"
    "v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))"
    ".then(r => console.log(JSON.stringify(r.issues)))"
)
needs_validator = pytest.mark.skipif(
    not VALIDATOR, reason="set LIFT3D_GLTF_VALIDATOR to a folder where npm installed gltf-validator"
)


def parts(data: bytes) -> tuple[dict, bytes]:
    """JSON and binary chunk."""
    magic, version, length, n_json = struct.unpack_from("<4sIII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data)) and length % 4 == n_json % 4 == 0
    assert data[16:20] == b"JSON"
    n_binary = struct.unpack_from("<I", data, 20 + n_json)[0]
    assert data[24 + n_json : 28 + n_json] == b"BIN\0" and len(data) == 28 + n_json + n_binary
    return json.loads(data[20 : 20 + n_json]), data[28 + n_json :]


def floats(data: bytes, attribute: str) -> ndarray:
    """An attribute [n, k] of the first mesh."""
    tree, binary = parts(data)
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"][attribute]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    start = tree["bufferViews"][accessor["bufferView"]]["byteOffset"]
    assert accessor["componentType"] == 5126
    return np.frombuffer(binary, "<f4", width * accessor["count"], start).reshape(-1, width)


def textures(data: bytes) -> tuple[dict[str, ndarray], float]:
    """Pictures in [0, 1] by their names, and what the alpha of "specular" is multiplied by to be F0."""
    tree, binary = parts(data)
    pictures = {}
    for image in tree.get("images", ()):
        view = tree["bufferViews"][image["bufferView"]]
        png = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        pictures[image["name"]] = np.asarray(Image.open(io.BytesIO(png))) / 255
    return pictures, 0.04 * _specular(tree).get("specularColorFactor", [1.0])[0]


def _specular(tree: dict) -> dict:
    return tree["materials"][0]["extensions"]["KHR_materials_specular"]


def verdict(path: Path) -> tuple[int, int, int]:
    """Errors, warnings and hints that the validator finds; they are printed."""
    command = [shutil.which("node"), "-e", PROGRAM, str(path)]
    issues = json.loads(subprocess.run(command, cwd=VALIDATOR, capture_output=True, check=True).stdout)
    print(issues["messages"])
    return issues["numErrors"], issues["numWarnings"], issues["numHints"]
