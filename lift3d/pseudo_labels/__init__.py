"""Views and lights of images that nobody labeled: by registration with the mean look, and by Retinex."""
