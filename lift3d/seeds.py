"""Random streams: the GAN samples of each purpose, so that nothing is measured on what it trained on.

A GAN sample is named by a seed of 32 bits, as torch's CPU generator uses no more. ``STREAMS`` deals them out
in blocks that do not overlap. Seeds that a user lists one by one are the user's own choice.
"""

import numpy as np

from lift3d.errors import ConfigError
from lift3d.settings import shown

BLOCK = 1_000_000  # samples of one run
STREAMS = {
    "dataset": range(0, BLOCK),  # of datasets of seed 0: sample i is the GAN's sample of seed i
    "training": range(BLOCK, 2 * BLOCK),  # joint pre-training of seed 0
    "relighting": range(2 * BLOCK, 3 * BLOCK),  # evaluation
    "priors": range(4 * BLOCK, 500_000_000),  # of which `lift3d prior fit` asks views and lights
    "photographs": range(3 * BLOCK, 4 * BLOCK),  # what a photograph is compared with
    "unlabeled": range(500_000_000, 500_000_000 + BLOCK),  # teach E_w, E_v and E_l
    "features": range(500_000_000 + BLOCK, 500_000_000 + 2 * BLOCK),  # that images are compared by
    "training, other seeds": range(1_000_000_000, 2_147_000_000),
    "datasets, other seeds": range(2**31, 2**32),
}
UNLABELED_SEED = STREAMS["unlabeled"].start  # of the first of the samples in ``Preset.n_unlabeled``
_GOLDEN = 2_654_435_769  # 2^32 / golden ratio: multiples of it are far apart


def seed_list(seeds: object) -> list[int]:
    """One seed, or several, as a list. Raises ``ConfigError`` where there is none, and for anything but whole
    numbers of 32 bits.
    """
    found = np.atleast_1d(np.asarray(seeds))
    if found.dtype.kind not in "iu" or found.ndim > 1 or found.min() < 0 or found.max() >= 2**32:
        raise ConfigError(f"seeds are {shown(seeds)}, expected one or more from 0 to 2^32 - 1")
    return found.tolist()


def training_seed(run_seed: int) -> int:
    """Seed of the first GAN sample of a pre-training run; the others, up to BLOCK, follow."""
    if run_seed == 0:
        return STREAMS["training"].start
    others = STREAMS["training, other seeds"]
    return others.start + (run_seed - 1) % (len(others) // BLOCK) * BLOCK


def priors_seed(run_seed: int) -> int:
    """Seed of the first GAN sample from which priors are estimated; the others, up to BLOCK, follow."""
    block = STREAMS["priors"]
    return block.start + run_seed % (len(block) // BLOCK) * BLOCK


def dataset_seed(plan_seed: int, i: int) -> int:
    """Seed of sample i of a dataset: i itself where the dataset's seed is 0 and i is in its block."""
    block, others = STREAMS["dataset"], STREAMS["datasets, other seeds"]
    if plan_seed == 0 and i in block:
        return i
    return others.start + (plan_seed * _GOLDEN + i) % len(others)
