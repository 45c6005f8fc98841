"""Datasets in HDF5: schema, writer, reader, verification."""
