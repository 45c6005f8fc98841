"""Masks of people for lift3d, in an environment of its own: pip install "mediapipe==0.10.21" "numpy<2"

lift3d pretrain ... --masks "run:mediapipe-env/bin/python segment_people.py"
"""

import sys
from pathlib import Path

import mediapipe
import numpy as np
from PIL import Image

if __name__ == "__main__":
    images, masks = Path(sys.argv[1]), Path(sys.argv[2])
    person = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    for path in sorted(images.glob("*.png")):
        with Image.open(path) as image:
            size, picture = image.size, image.convert("RGB").resize((256, 256), Image.BICUBIC)
        share = person.process(np.asarray(picture)).segmentation_mask
        mask = Image.fromarray(np.uint8(share.clip(0, 1) * 255)).resize(size, Image.BILINEAR)
        mask.point(lambda value: 255 * (value >= 128)).save(masks / path.name)
