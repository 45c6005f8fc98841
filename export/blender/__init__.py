"""Blender: .blend files with cameras and lights, through a Blender of its own."""
