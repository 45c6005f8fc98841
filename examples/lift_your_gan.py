"""Your own StyleGAN2 or StyleGAN3 in five lines: python lift_your_gan.py gan.pkl [preset or category.toml]"""

import sys

import lift3d

if __name__ == "__main__":
    preset = sys.argv[2] if len(sys.argv) > 2 else "afhq-cat"
    model = lift3d.lift(sys.argv[1], preset, out="lifted")
    sample = model.sample(7)[0]
    model.mesh(sample.code).save("sample.glb")
