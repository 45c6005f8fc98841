"""The distance in the log: a metric's closed forms, and the order of images that everybody sees."""

import pytest
import torch
import torch.nn.functional as F

from lift3d.gan.training.feature_distance import Gaussian, fitted, frechet_distance, random_features
from lift3d.synthetic.pack import head_images


def gaussian(mean: torch.Tensor, covariance: torch.Tensor) -> Gaussian:
    return Gaussian(mean.double(), covariance.double())


def test_closed_forms() -> None:
    a, b = torch.rand(2, 5), torch.rand(2, 5)
    axes = [gaussian(m, torch.diag(s.square())) for m, s in (a, b)]  # two normal distributions per axis
    expected = (a - b).square().sum()
    assert frechet_distance(*axes) == pytest.approx(expected.item(), rel=1e-5)
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    turned = [Gaussian(turn.double() @ g.mean, turn.double() @ g.covariance @ turn.double().T) for g in axes]
    assert frechet_distance(*turned) == pytest.approx(expected.item(), rel=1e-5)
    flat = gaussian(torch.zeros(5), torch.zeros(5, 5))
    assert frechet_distance(flat, flat) == 0


def test_the_root_without_symmetry() -> None:
    x, y = torch.randn(50, 4), torch.randn(50, 4) @ torch.randn(4, 4)
    a, b = fitted(x), fitted(y)
    root = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().sum().real
    expected = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-8)
    torch.testing.assert_close(b.covariance, y.double().T.cov(correction=0))


def test_worse_images_are_farther_away() -> None:
    heads = torch.cat([torch.from_numpy(head_images("train", i, 32)) for i in range(48)])
    images = heads.permute(0, 3, 1, 2).float() / 127.5 - 1
    known, other = images[:96], images[96:]
    reference = fitted(random_features(known))

    def distance(x: torch.Tensor) -> float:
        return frechet_distance(reference, fitted(random_features(x)))

    def blurred(times: int) -> torch.Tensor:
        x = other
        for _ in range(times):
            x = F.avg_pool2d(F.pad(x, [1] * 4, mode="replicate"), 3, 1)
        return x

    rows = {
        "blur": [distance(blurred(times)) for times in range(4)],
        "noise": [distance((other + s * torch.randn_like(other)).clamp(-1, 1)) for s in (0, 0.2, 0.4, 0.8)],
        "few": [distance(other[:n].repeat(96 // n, 1, 1, 1)) for n in (96, 12, 4, 1)],
        "darker": [distance((other + 1) * s - 1) for s in (1, 0.9, 0.8, 0.5)],
    }
    for name, row in rows.items():
        assert row == sorted(row) and row[-1] > 2 * row[0], (name, row)


def test_features_are_the_same_everywhere_and_of_any_size() -> None:
    images = torch.rand(2, 3, 8, 8)
    state = torch.get_rng_state()
    assert torch.equal(random_features(images), random_features(images))
    assert torch.equal(torch.get_rng_state(), state)
    large = images.repeat_interleave(16, 2).repeat_interleave(16, 3)  # 128 pixels, averaged to 64
    assert torch.equal(random_features(large), random_features(F.avg_pool2d(large, 2)))
    assert torch.isfinite(random_features(torch.rand(2, 3, 8, 8))).all()
