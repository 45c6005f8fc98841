"""CC0 morphable heads with exact depth, normals, material and light."""
