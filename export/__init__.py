"""What leaves the program: HDF5 datasets, meshes, pictures."""
