"""Published presets with tiny networks and schedules, and random GANs of the kinds and sizes they lift."""

from dataclasses import replace
from pathlib import Path

import gan_files as files
from tiny_gan import other_gan

from lift3d.config.presets import PRESETS
from lift3d.config.schema import BatchConfig, FieldConfig, Preset
from lift3d.render.volume import SamplingConfig

SMALL = {  # replaces sizes of networks and batches
    "shape": FieldConfig(8, 2, 4), "material": FieldConfig(8, 2, 6), "n_code": 16, "encoder_width": 1 / 64,
    "sampling": SamplingConfig(4, 2, True), "batch": BatchConfig(2, 64, 8, 128, 2, 2),
    "n_unlabeled": 4,
}  # fmt: skip


def small(name: str, **schedule: int) -> Preset:
    """A published preset whose networks and steps are tiny: a first stage and another one."""
    preset = PRESETS[name]
    steps = {"n_samples": 2, "n_rerendered": 2, "n_stages": 2}
    steps |= {"explore_first": 2, "explore": 1, "align": 1, "exploit": 2}
    return replace(preset, joint=replace(preset.joint, **(steps | schedule)), **SMALL)


def gan_file(path: Path, size: int, kind: str) -> Path:
    """A random GAN of this size as other programs write it."""
    gan = other_gan(channels=(4,) * (size.bit_length() - 2), noise=True)
    if kind == "nvlabs":
        generator = files.nvlabs_generator(gan.generator)
        path.write_bytes(
            files.dumps(files.snapshot(generator, files.nvlabs_discriminator(gan.discriminator)))
        )
    else:
        networks = {
            "g_ema": files.rosinality_generator(gan.generator),
            "d": files.rosinality_discriminator(gan.discriminator),
        }
        path.write_bytes(files.saved(networks | {"latent_avg": gan.w_avg}))
    return path
