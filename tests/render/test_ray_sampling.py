"""Distances along rays against bins, naive inverse cumulative distributions, and their own histograms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift3d.render import ray_sampling
from lift3d.render.ray_sampling import from_weights, interpolated, listed, stratified


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_a_generator_samples_are_bin_centers() -> None:
    near, far = torch.tensor([1.0, 4.0]), torch.tensor([2.0, 4.0])
    expected = torch.tensor([[1.125, 1.375, 1.625, 1.875], [4.0] * 4])
    torch.testing.assert_close(stratified(near, far, 4, None), expected)


def test_one_jittered_sample_falls_into_every_bin_uniformly() -> None:
    near, far = torch.full((4000,), 8.5), torch.full((4000,), 10.5)
    t = stratified(near, far, 5, seeded())
    position = (t - 8.5) / 2 * 5 - torch.arange(5)
    assert position.min() > -1e-5 and position.max() < 1 + 1e-5
    assert (position.mean(0) - 0.5).abs().max() < 0.02
    assert (position.std(0) - 12**-0.5).abs().max() < 0.02
    assert (torch.corrcoef(position.T) - torch.eye(5)).abs().max() < 0.06
    assert torch.equal(t, stratified(near, far, 5, seeded()))


def naive_inverse(t: list[float], weights: list[float], u: float) -> float:
    """The distance up to which a fraction u of the weight (each raised by 1e-5) lies."""
    weights = [w + 1e-5 for w in weights]
    left = u * sum(weights)
    for i, w in enumerate(weights):
        if left <= w:
            return t[i] + left / w * (t[i + 1] - t[i])
        left -= w
    return t[-1]


def ray(seed: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    t = 8.5 + 2 * torch.rand(m, generator=seeded(seed), dtype=torch.float64).sort().values
    weights = torch.rand(m - 1, generator=seeded(seed + 1), dtype=torch.float64) ** 6
    return t, weights / weights.sum()


@pytest.mark.parametrize("jitter", [False, True])
def test_samples_are_the_naive_inverse_of_the_cumulative_distribution(jitter: bool) -> None:
    rays = [ray(seed, 12) for seed in range(6)]
    rays[2][1].zero_()  # no weight at all
    rays[3][1][:5] = 0.0
    t, weights = (torch.stack(x).view(2, 3, -1) for x in zip(*rays))
    u = stratified(t.new_zeros(2, 3), t.new_ones(2, 3), 9, seeded(5) if jitter else None)
    samples = from_weights(t, weights, 9, seeded(5) if jitter else None)
    assert samples.shape == (2, 3, 9)
    for i in range(2):
        for j in range(3):
            expected = [naive_inverse(t[i, j].tolist(), weights[i, j].tolist(), x) for x in u[i, j].tolist()]
            assert samples[i, j].tolist() == pytest.approx(expected, abs=1e-9)


def test_intervals_get_samples_in_proportion_to_their_weights() -> None:
    t = torch.tensor([0.0, 0.1, 1.0, 1.2, 3.0])
    weights = torch.tensor([0.2, 0.0, 0.5, 0.3])
    samples = from_weights(t, weights, 10_000, seeded())
    histogram = torch.histogram(samples, t).hist / 10_000
    torch.testing.assert_close(histogram, weights, atol=2e-4, rtol=0)
    inside = (samples[samples > 1.2] - 1.2) / 1.8
    assert (inside.mean() - 0.5).abs() < 1e-2 and (inside.std() - 12**-0.5).abs() < 1e-2


def test_without_weight_every_interval_gets_the_same_number() -> None:
    t = torch.tensor([0.0, 0.1, 1.0, 1.2, 3.0])
    samples = from_weights(t, torch.zeros(4), 400, None)
    assert torch.histogram(samples, t).hist.tolist() == [100] * 4


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40),
    st.floats(0, 4, width=32),
    st.integers(1, 50),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_samples_are_sorted_and_stay_on_the_ray(
    weights: list[float], length: float, n: int, seed: int
) -> None:
    t = 8.5 + length * torch.linspace(0, 1, len(weights) + 1)
    samples = from_weights(t, torch.tensor(weights), n, seeded(seed))
    assert samples.isfinite().all()
    assert (samples.diff() >= -1e-6).all()
    assert samples.min() >= t[0] and samples.max() <= t[-1] + 1e-6


def test_rounding_of_the_last_quantile_does_not_leave_the_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    last = lambda near, *_: torch.full_like(near, 1 - 1e-7)[..., None]  # noqa: E731
    monkeypatch.setattr(ray_sampling, "stratified", last)
    weights = torch.rand(2000, 40, generator=seeded()) ** 8
    weights[:, -1] = 0.0  # so thin a last interval that the rounding of the sum shows in it
    t = torch.linspace(0, 1, 41).expand(2000, 41)
    assert from_weights(t, weights, 1, None).max() <= 1


def test_interpolation_is_exact_on_lines_and_on_the_samples() -> None:
    t = torch.rand(3, 6, generator=seeded(), dtype=torch.float64).sort(-1).values
    at = 3 * torch.rand(3, 20, generator=seeded(1), dtype=torch.float64) - 1  # also beyond the samples
    torch.testing.assert_close(interpolated(t, 2 - 3 * t, at), 2 - 3 * at)
    values = torch.rand(3, 6, generator=seeded(2), dtype=torch.float64)
    torch.testing.assert_close(interpolated(t, values, t), values)
    flat = torch.ones(1, 4)  # a ray without length
    assert interpolated(flat, 5 * flat, flat).isfinite().all()


def test_a_list_has_what_is_chosen_in_order_then_others() -> None:
    chosen = torch.tensor([[False, True, False, True], [False, False, True, False]])
    assert listed(chosen).tolist() == [[1, 3], [2, 0]]
    assert listed(~torch.ones_like(chosen)).tolist() == [[0], [0]]
    assert listed(torch.ones_like(chosen)).tolist() == [[0, 1, 2, 3]] * 2
