"""Random streams: disjoint, whatever the seeds of the runs."""

import inspect
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lift3d.config.presets import PRESETS
from lift3d.errors import ConfigError
from lift3d.evaluation.relighting import relighting
from lift3d.seeds import BLOCK, STREAMS, UNLABELED_SEED, dataset_seed, priors_seed, seed_list, training_seed

SEEDS = st.integers(0, 2**32 - 1)


def stream_of(seed: int) -> str:
    (name,) = [name for name, block in STREAMS.items() if seed in block]
    return name


@pytest.mark.parametrize(("a", "b"), [*combinations(STREAMS, 2)])
def test_no_two_streams_overlap(a: str, b: str) -> None:
    assert max(STREAMS[a].start, STREAMS[b].start) >= min(STREAMS[a].stop, STREAMS[b].stop)


def test_streams_are_seeds_of_32_bits() -> None:
    assert all(0 <= block.start < block.stop <= 2**32 for block in STREAMS.values())


@pytest.mark.parametrize(
    ("seeds", "wanted"),
    [
        (7, [7]),
        (np.int64(7), [7]),
        ([7, 8], [7, 8]),
        (range(2), [0, 1]),
        (torch.tensor([2**32 - 1]), [2**32 - 1]),
    ],
)
def test_seeds_are_one_or_several_whole_numbers(seeds: object, wanted: list[int]) -> None:
    assert seed_list(seeds) == wanted


@pytest.mark.parametrize("seeds", ["17", 1.5, [], -1, [0, 2**32], None, True, [[1, 2]], 2**70])
def test_other_seeds_are_refused(seeds: object) -> None:
    with pytest.raises(ConfigError, match=r"^seeds are .*, expected one or more from 0 to 2\^32 - 1$"):
        seed_list(seeds)


@given(SEEDS, st.integers(0, 2**31 - 1), st.integers(0, BLOCK - 1))
def test_every_run_stays_in_its_stream(seed: int, i: int, j: int) -> None:
    assert stream_of(dataset_seed(seed, i)).startswith("dataset")
    assert stream_of(training_seed(seed)).startswith("training")
    assert stream_of(training_seed(seed) + j) == stream_of(training_seed(seed))
    assert stream_of(UNLABELED_SEED + j) == "unlabeled"
    assert stream_of(priors_seed(seed) + j) == stream_of(priors_seed(seed)) == "priors"


def test_runs_of_other_seeds_train_on_other_samples() -> None:
    firsts = [training_seed(seed) for seed in range(1000)]
    assert len(set(firsts)) == 1000 and all(first % BLOCK == 0 for first in firsts)


def test_the_bundled_model_can_be_made_again() -> None:
    assert (training_seed(0), UNLABELED_SEED) == (1_000_000, 500_000_000)
    assert [dataset_seed(0, i) for i in (0, 7, BLOCK - 1)] == [0, 7, BLOCK - 1]


def test_functions_take_their_seeds_from_the_table() -> None:
    assert inspect.signature(relighting).parameters["seed"].default == STREAMS["relighting"].start
    sizes = [(p.joint.n_samples if p.joint else 1, p.n_unlabeled) for p in PRESETS.values()]
    assert all(max(size) <= BLOCK for size in sizes)
