"""What a camera sees of a scene: maps, by volume rendering or by rasterized meshes."""
