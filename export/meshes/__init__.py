"""Meshes in files: glTF, Wavefront OBJ, PLY, STL, and their textures."""
