"""What is learned: fields, encoders, and the features that images are compared by."""
