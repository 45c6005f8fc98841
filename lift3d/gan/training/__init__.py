"""Trains a StyleGAN2 from images."""
