"""What a dataset contains: instances, views, lights, and how they are stored."""
