"""The depth buffer that stands in for neural_renderer's beneath unsup3d."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

PATH = Path(__file__).parents[1] / "benchmarks" / "peers" / "unsup3d.py"
spec = importlib.util.spec_from_file_location("peer", PATH)
peer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peer)

SIZE = 12
FOCAL = 30.0
K = torch.tensor([[[FOCAL, 0.0, SIZE / 2], [0.0, FOCAL, SIZE / 2], [0.0, 0.0, 1.0]]])
DRAWN = peer.DepthRenderer(K=K, image_size=SIZE)


def lifted(corners: list[tuple[float, float, float]]) -> Tensor:
    """Points [1, v, 3] of (column, row, depth), in double precision."""
    x, y, z = torch.tensor(corners, dtype=torch.float64).unbind(-1)
    return torch.stack(((x - SIZE / 2) * z / FOCAL, (y - SIZE / 2) * z / FOCAL, z), -1)[None]


def centers() -> tuple[Tensor, Tensor]:
    """Rows and columns of pixel centers."""
    at = torch.arange(SIZE, dtype=torch.float64) + 0.5
    return at[:, None].expand(SIZE, SIZE), at.expand(SIZE, SIZE)


def test_a_plane_has_its_depth_and_the_rest_is_far() -> None:
    DRAWN.intrinsics = K[0].double()
    square = lifted([(2, 3, 1.0), (9, 3, 2.0), (2, 8, 1.0), (9, 8, 2.0)])
    depth = DRAWN.render_depth(square, torch.tensor([[[0, 1, 2], [3, 2, 1]]]))[0]
    row, column = centers()
    inside = (column > 2) & (column < 9) & (row > 3) & (row < 8)
    ways = [
        1 / (1 + (column + shift - 2) / 7 * (1 / 2 - 1)) for shift in (-0.25, 0.25)
    ]  # 1 / depth is linear
    torch.testing.assert_close(depth[inside], (sum(ways) / 2)[inside], rtol=1e-9, atol=0)
    assert inside.sum() == 35 and torch.all(depth[~inside] == peer.FAR)


def test_the_nearer_face_is_seen_from_both_sides_in_every_image() -> None:
    DRAWN.intrinsics = K[0].double()
    far = [(1, 1, 3.0), (11, 1, 3.0), (1, 11, 3.0)]
    near = [(3, 3, 2.0), (3, 6, 2.0), (6, 3, 2.0)]  # turned the other way round
    images = torch.cat((lifted(far + near), lifted([(x, y, 5 - z) for x, y, z in far + near])))
    depth = DRAWN.render_depth(images, torch.arange(6).view(1, 2, 3).expand(2, -1, -1))
    assert depth[0, 3, 3] == pytest.approx(2.0) and depth[0, 2, 2] == pytest.approx(3.0)
    assert depth[1, 3, 3] == pytest.approx(2.0) and depth[1].min() == pytest.approx(2.0)
    outside = [(x, y - 30, z) for x, y, z in far]
    empty = DRAWN.render_depth(lifted(outside), torch.tensor([[[0, 1, 2]]]))
    assert torch.all(empty == peer.FAR)


def test_gradients_lead_to_all_coordinates() -> None:
    DRAWN.intrinsics = K[0].double()
    points = lifted([(1.1, 1.2, 1.0), (9.7, 2.1, 1.4), (2.3, 10.9, 1.2)]).requires_grad_()
    faces = torch.tensor([[[0, 1, 2]]])
    inner = (slice(None), slice(4, 6), slice(3, 5))  # far from edges, where pixels do not change hands
    depth = DRAWN.render_depth(points, faces)[inner]
    assert depth.max() < 2
    assert torch.autograd.gradcheck(lambda p: DRAWN.render_depth(p, faces)[inner], points)


def test_the_frame_is_ours() -> None:
    """Its corner pixel looks where ours does."""
    theirs = math.tan(math.radians(peer.CONFIG["fov"] / 2))
    ours = math.tan(math.radians(peer.FOV_DEG / 2)) * 36 / 64 * (2 * 63.5 / 64 - 1)
    assert theirs == pytest.approx(ours)
    assert peer.CONFIG["min_depth"] < 1 - 0.62 / peer.DISTANCE  # the nose of the ellipsoid of heads


def test_the_middle_is_put_back_where_it_was() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 2, 64, 64)
    back = peer.framed(peer.middle(ramp))
    inner = (..., slice(15, 49), slice(15, 49))
    torch.testing.assert_close(back[inner], ramp[inner], atol=5e-3, rtol=0)  # half a pixel is 0.008
    assert back[..., :14, :].abs().max() == back[..., 50:].abs().max() == 0


def test_depth_starts_as_the_ellipsoid_of_our_heads() -> None:
    depth = peer.ellipsoid()
    middle = depth[peer.SIZE // 2, peer.SIZE // 2].item()
    assert middle == pytest.approx(-peer.DEMO.radii[2] / peer.DISTANCE / peer.REACH, rel=0.01)
    assert torch.allclose(depth, depth.flip(1), atol=1e-5)
    assert depth.min() > -1 and depth[0, 0] == 0 and depth[peer.SIZE // 2, 0] > middle + 0.5
