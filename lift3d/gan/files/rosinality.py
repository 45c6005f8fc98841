"""StyleGAN2 networks in the checkpoints of rosinality/stylegan2-pytorch, its forks, GAN2Shape and LiftedGAN.

A checkpoint is a dict of state dicts: ``g_ema`` (averaged generator), ``g``, ``d``, perhaps ``latent_avg``,
``args`` and optimizers; or the generator's state dict alone. Settings are not stored: sizes and widths come
from shapes, the rest is fixed. Errors are predicates ("has ..."); ``load.py`` puts the file's name before
them.
"""

from lift3d.errors import CheckpointError
from lift3d.gan.config import MAX_RESOLUTION, DiscriminatorConfig, GeneratorConfig
from lift3d.gan.pickle.tensors import StoredTensor

_MAX_BLOCKS = MAX_RESOLUTION.bit_length() - 3  # without the one of r = 4
_MAX_WIDTH = 1 << 16

Tensors = dict[str, StoredTensor]


def networks(value: object, average: bool) -> tuple[Tensors, Tensors | None, StoredTensor | None]:
    """State dicts of generator (averaged, or as of the last step) and discriminator, and the mean of w."""
    if type(value) is dict and "style.1.weight" in value:
        value = {"g_ema": value}
    if type(value) is not dict or not {"g_ema", "g"} & value.keys():
        raise CheckpointError(
            "is a checkpoint of something else than StyleGAN2, such as a classifier: give a file with the "
            "state dicts g_ema and d"
        )
    key = "g_ema" if average else "g"
    if not _is_state_dict(value.get(key)):
        raise CheckpointError(f"has no {key}, the generator's state dict: give a complete checkpoint")
    critic, mean = value.get("d"), value.get("latent_avg")
    if critic is not None and not _is_state_dict(critic):
        raise CheckpointError("has a d that is no state dict: give a StyleGAN2 checkpoint")
    if mean is not None and not isinstance(mean, StoredTensor):
        raise CheckpointError("has a latent_avg that is no tensor: give a StyleGAN2 checkpoint")
    return value[key], critic, mean


def generator(state: Tensors, mean: StoredTensor | None) -> tuple[GeneratorConfig, Tensors, Tensors]:
    """Settings and tensors of a generator under our names, and its FIR filters (4 f). Noise maps and w's mean
    may be missing.
    """
    state = dict(state)
    n = 1 + _count(state, "to_rgbs.{}.conv.weight", _MAX_BLOCKS)
    n_layers = _count(state, "style.{}.weight", 64, first=1)
    w_dim, z_dim = _shape(state, "style.1.weight", 2)
    ours: Tensors = (
        {} if mean is None else {"mapping.w_avg": mean.without(0) if len(mean.shape) == 2 else mean}
    )
    for i in range(n_layers):
        for kind in ("weight", "bias"):
            ours[f"mapping.fc{i}.{kind}"] = _take(state, f"style.{i + 1}.{kind}")
    ours["synthesis.b4.const"] = _take(state, "input.input", 0)
    channels = []
    for i in range(n):
        first, second = (None, "conv1") if i == 0 else (f"convs.{2 * i - 2}", f"convs.{2 * i - 1}")
        channels.append(_shape(state, f"{second}.conv.weight", 5)[1])
        block = f"synthesis.b{4 << i}"
        if first is not None:
            ours |= _layer(state, f"{block}.conv0", first, 2 * i - 1)
        ours |= _layer(state, f"{block}.conv1", second, 2 * i)
        rgb = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        ours |= _modulated(state, f"{block}.torgb", rgb)
        ours[f"{block}.torgb.bias"] = _take(state, f"{rgb}.bias", 0, 2, 3)
    filters = {name: state.pop(name) for name in list(state) if name.endswith(".kernel")}
    _require_empty(state, "generator")
    config = GeneratorConfig(
        tuple(channels), z_dim, w_dim, n_mapping_layers=n_layers, demodulation_eps_per_input=True
    )
    return config, ours, filters


def discriminator(state: Tensors) -> tuple[DiscriminatorConfig, Tensors, Tensors]:
    """Settings and tensors of a discriminator under our names, and its FIR filters (f)."""
    state = dict(state)
    n = 1 + _count(state, "convs.{}.conv1.0.weight", _MAX_BLOCKS, first=1)
    names = {"convs.0.0.weight": f"b{2 << n}.fromrgb.weight", "convs.0.1.bias": f"b{2 << n}.fromrgb.bias"}
    channels = []
    for i in range(n - 1, 0, -1):
        theirs, block = f"convs.{n - i}", f"b{4 << i}"
        channels.insert(0, _shape(state, f"{theirs}.conv1.0.weight", 4)[1])
        names |= {
            f"{theirs}.conv1.0.weight": f"{block}.conv0.weight",
            f"{theirs}.conv1.1.bias": f"{block}.conv0.bias",
            f"{theirs}.conv2.1.weight": f"{block}.conv1.weight",
            f"{theirs}.conv2.2.bias": f"{block}.conv1.bias",
            f"{theirs}.skip.1.weight": f"{block}.skip.weight",
        }
    channels.insert(0, _shape(state, "final_conv.0.weight", 4)[0])
    names |= {"final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias"}
    for i, layer in enumerate(("fc", "out")):
        names |= {f"final_linear.{i}.{kind}": f"b4.{layer}.{kind}" for kind in ("weight", "bias")}
    ours = {name: _take(state, theirs) for theirs, name in names.items()}
    filters = {name: state.pop(name) for name in list(state) if name.endswith(".kernel")}
    _require_empty(state, "discriminator")
    return DiscriminatorConfig(tuple(channels)), ours, filters


def _layer(state: Tensors, ours: str, theirs: str, noise: int) -> Tensors:
    """A convolution with noise; its noise map may be missing."""
    tensors = _modulated(state, ours, theirs)
    tensors[f"{ours}.bias"] = _take(state, f"{theirs}.activate.bias")
    tensors[f"{ours}.noise_strength"] = _take(state, f"{theirs}.noise.weight", 0)
    if f"noises.noise_{noise}" in state:
        tensors[f"{ours}.noise_const"] = _take(state, f"noises.noise_{noise}", 0, 1)
    return tensors


def _modulated(state: Tensors, ours: str, theirs: str) -> Tensors:
    """Weight and style layer of a convolution."""
    return {
        f"{ours}.weight": _take(state, f"{theirs}.conv.weight", 0),
        f"{ours}.affine.weight": _take(state, f"{theirs}.conv.modulation.weight"),
        f"{ours}.affine.bias": _take(state, f"{theirs}.conv.modulation.bias"),
    }


def _is_state_dict(value: object) -> bool:
    return type(value) is dict and all(
        isinstance(v, StoredTensor) and type(k) is str for k, v in value.items()
    )


def _count(state: Tensors, pattern: str, maximum: int, first: int = 0) -> int:
    """How many tensors of consecutive numbers there are: 1 to maximum."""
    n = next(i for i in range(maximum + 1) if pattern.format(first + i) not in state or i == maximum)
    if n == 0:
        raise CheckpointError(
            f"has no {pattern.format(first)}: give a StyleGAN2 checkpoint of rosinality's code"
        )
    return n


def _shape(state: Tensors, name: str, n_axes: int) -> tuple[int, ...]:
    shape = state[name].shape if name in state else ()
    if len(shape) != n_axes or not all(0 < n <= _MAX_WIDTH for n in shape):
        raise CheckpointError(f"has no usable {name}: it is damaged, or no StyleGAN2 of rosinality's code")
    return shape


def _take(state: Tensors, name: str, *axes: int) -> StoredTensor:
    """Removes a tensor from the state dict, and from it axes of length 1."""
    if name not in state:
        raise CheckpointError(f"has no {name}: it is incomplete, or no StyleGAN2 of rosinality's code")
    return state.pop(name).without(*axes)


def _require_empty(state: Tensors, network: str) -> None:
    """Nothing may be left over."""
    if state:
        names = ", ".join(ascii(name[:60])[1:-1] for name in sorted(state)[:3])
        raise CheckpointError(
            f"has {len(state)} tensors in its {network} that StyleGAN2 does not have ({names}): give an "
            "unmodified StyleGAN2"
        )
