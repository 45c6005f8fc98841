"""What there is: cameras, lights, surfaces, materials, meshes and images. Conventions: ``cameras``."""
