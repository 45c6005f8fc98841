"""Views and lights of images that nobody labelled: by registration with the mean look, and by Retinex."""
