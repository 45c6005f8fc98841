"""Where the object is in an image."""
