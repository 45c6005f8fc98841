"""Training: explore, align, exploit."""
