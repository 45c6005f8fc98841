"""Files that GANs come in: our own, NVLabs pickles, rosinality checkpoints."""
