"""Categories from TOML files: what they may say, what is refused, and the example of the guide."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from published_toys import gan_file, small

from lift3d.cli.main import main
from lift3d.config.presets import DEMO, LSUN_CAR, PRESETS, PROFILES
from lift3d.config.toml import open_preset, read_category
from lift3d.errors import ConfigError

GUIDE = Path(__file__).parents[2] / "docs" / "own-category.md"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "own.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", PRESETS)
def test_base_and_name_alone_give_the_base(write, name: str) -> None:
    assert read_category(write(f'base = "{name}"\nname = "own"')) == replace(PRESETS[name], name="own")


def test_tables_replace_single_settings(write) -> None:
    text = """
        base = "afhq-cat"
        name = "dogs"
        radii = [0.6, 0.7, 0.8]
        light_range = [2, 1]
        masks = "auto"
        license = "CC0-1.0"
        [view_prior]
        std = [0.1, 0.2, 0.05, 0, 0, 0]
        [light_prior]
        diffuse = [0.2, 0.6]
        [joint]
        n_samples = 50
        [weights]
        mask = 0.2
        [[instance]]
        n_rerendered = 7
        [[instance]]
        align = 5
    """
    base = PRESETS["afhq-cat"]
    assert read_category(write(text)) == replace(
        base,
        name="dogs",
        radii=(0.6, 0.7, 0.8),
        light_range=(2.0, 1.0),
        masks="auto",
        license="CC0-1.0",
        view_prior=replace(base.view_prior, std=(0.1, 0.2, 0.05, 0.0, 0.0, 0.0)),
        light_prior=replace(base.light_prior, diffuse=(0.2, 0.6)),
        joint=replace(base.joint, n_samples=50),
        weights=replace(base.weights, mask=0.2),
        instance=(replace(base.instance[0], n_rerendered=7), replace(base.instance[0], align=5)),
    )


def test_names_and_files_open_alike(write) -> None:
    path = str(write('base = "demo"\nname = "own"'))
    assert open_preset("demo") == DEMO
    assert open_preset(path, "quick").joint == open_preset("demo", "quick").joint
    with pytest.raises(ConfigError, match="unknown dataset 'own', known are celeba"):
        open_preset("own")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("base = ", "own.toml is not TOML: Invalid value"),
        ('name = "own"', "own.toml: setting 'size' is missing; or start from a preset: base = \"demo\""),
        ('base = "dogs"\nname = "own"', "base is 'dogs', expected one of celeba"),
        ('base = "demo"', "name is None, expected one of your own"),
        (
            'base = "demo"\nname = "celeba"',
            "name is 'celeba', expected one of your own, other than a preset's",
        ),
        ("radius = 1", "own.toml: unknown setting 'radius', known are name, size, radii"),
        ("[joint]\nsteps = 3", "own.toml.joint: unknown setting 'steps'"),
        ("joint = 3", "own.toml.joint is 3, expected a table of Schedule"),
        ('size = "64"', "own.toml.size is '64', expected int"),
        ("size = 100", "own.toml: size is 100, expected a power of 2 from 8 to 1024"),
        ("radii = [0.5, 0.5, 1.2]", r"radii is \(0.5, 0.5, 1.2\), expected numbers from 0.05 to 0.98"),
        ("truncation = nan", "truncation is nan, expected a number from 0 to 1"),
        ("background = 255", "background is 255.0, expected a number from 0 to 1"),
        ('masks = "some"', "masks is 'some', expected none, background, files or auto"),
        (
            'base = "celeba"\nname = "own"\nn_unlabeled = 9\nmasks = "none"',
            "n_unlabeled is 9, which needs masks: set masks to 'auto', or it to 0",
        ),
        ("n_unlabeled = 0", "joint.latent is 1500, but n_unlabeled is 0: set joint.latent to 0"),
        (
            "[[instance]]\ncalibrate = 5",
            r"instance\[0\].calibrate is 5, but one object has no unlabeled samples",
        ),
        ("[rates]\nfields = 0", "rates.fields is 0.0, expected a number from"),
        ("[batch]\nn_rays = 0", "batch.n_rays is 0, expected a number from 1 to 10,000,000"),
        ("[batch]\np_original = 1.5", "batch.p_original is 1.5, expected a number from 0 to 1"),
        ("[batch]\nn_surface_pixels = -1", "batch.n_surface_pixels is -1, expected a number from 0 to"),
        ("[rates]\ncooldown = -1", "rates.cooldown is -1.0, expected a number from 0 to 1"),
        ("view_range = [0, 1, 1]", r"view_range is \(0.0, 1.0, 1.0\), expected numbers from 0.01"),
        ("[joint]\nalign = 0", "joint.align is 0, expected a number from 1 to"),
        ("[joint]\nopen_bands = [0, 2]", r"joint.open_bands is \(0.0, 2.0\), expected numbers from 0 to 1"),
        ("[joint]\nsize = 32", "joint.size is 32, expected size, 64"),
        ("a={" * 900, "own.toml is nested too deeply"),
        (f"truncation = {'9' * 400}", "truncation is inf, expected a number from 0 to 1"),
        (f"n_code = {'9' * 400}", r"n_code is 9{60}... .400 characters., expected a number from 1 to 8,192"),
        (f"n_code = {'9' * 5000}", "own.toml is not TOML: Exceeds the limit"),
        (f"n_code = {2**63 - 1}", "n_code is 9223372036854775807, expected a number from 1 to 8,192"),
        (f"base = '{'b' * 400}'", r"base is 'b{59}... .402 characters., expected one of"),
        (
            "[[instance]]\nsize = 128",
            r"instance\[0\].size is 128, expected a number from batch.patch \(\d+\) to size",
        ),
        ("[view_prior]\nstd = [1, 2]", "own.toml: view prior: std needs 6 numbers"),
        ("[view_prior]\nmean = [0, 1, 0, 0, 0, 0]", "view_prior reaches .* must stay within .-"),
        (
            "[light_prior]\ndiffuse = [0.5, 1.5]",
            r"own.toml: light_prior.diffuse is .0.5, 1.5., expected numbers from 0 to 1",
        ),
        ("[light_prior]\nlevel = [0.1, 0.2]", "light_prior reaches .* k_a and k_d must stay within 0 and 1"),
        ("[light_prior]\nl_x = [1, -1]", "own.toml: light prior: l_x is"),
    ],
)
def test_what_is_refused(write, text: str, sentence: str) -> None:
    start = "" if "base" in text or "name" in text else 'base = "demo"\nname = "own"\n'
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_category(write(start + text))
    assert "\n" not in str(caught.value)


def test_schedules_that_the_base_lacks_must_be_whole(write) -> None:
    with pytest.raises(ConfigError, match="own.toml.joint: setting 'size' is missing"):
        read_category(write('base = "lsun-car"\nname = "vans"\n[joint]\nn_samples = 5'))
    assert LSUN_CAR.joint is None


def test_masks_need_their_loss(write) -> None:
    with pytest.raises(ConfigError, match="masks is 'auto', but weights.mask is 0: set it to 0.2"):
        read_category(write('base = "celeba"\nname = "own"\nweights.mask = 0'))


def test_background_masks_need_a_background(write) -> None:
    with pytest.raises(ConfigError, match="masks is 'background', which needs background"):
        read_category(write('base = "celeba"\nname = "own"\nmasks = "background"'))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("there is no file missing.toml; give a preset (celeba,")):
        read_category("missing.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="latin.toml is not TOML"):
        read_category(tmp_path / "latin.toml")


def guide_examples() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def guide_example() -> str:
    return guide_examples()[0]


def test_the_example_of_the_guide_says_what_it_claims(write) -> None:
    given = tomllib.loads(guide_example())
    preset = read_category(write(guide_example()))
    assert preset.name == given["name"]
    assert preset != replace(PRESETS[given["base"]], name=given["name"])
    lists = GUIDE.read_text().partition("## Alignment")[2]
    names = set(re.findall(r"^\* `([a-z_.]+)`:", lists, re.MULTILINE))
    for name in names:  # every setting of the guide's lists exists
        value: object = preset
        for part in name.split("."):
            value = getattr(value, part)
    assert len(names) > 10


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256, 512, 1024])
def test_the_example_of_the_guide_works_at_any_size(write, size: int) -> None:
    text = re.sub(r"size = \d+", f"size = {size}", guide_example())
    for profile in PROFILES:
        preset = read_category(write(text), profile)
        assert (preset.size, preset.joint.size, preset.joint.n_samples) == (size, size, 200)
        assert all(schedule.size == size for schedule in preset.instance)


def test_the_example_of_the_guide_trains(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tomllib.loads(guide_example())["base"]
    monkeypatch.setitem(PRESETS, base, small(base))
    steps = "n_samples = 2\nn_rerendered = 2\nn_stages = 1\nexplore_first = 1\nalign = 1\nexploit = 1\n"
    text = re.sub(r"\[joint\]\n(?:\w.*\n)*", f"[joint]\n{steps}", guide_example())
    path, out = write(text), tmp_path / "run"
    gan_file(tmp_path / "dogs.pkl", 256, "nvlabs")
    arguments = [
        "pretrain",
        "--dataset",
        path,
        "--gan",
        tmp_path / "dogs.pkl",
        "--out",
        out,
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    shown = CliRunner().invoke(main, ["pretrain", "--dataset", str(path), "--out", "x", "--dry-run"])
    assert tomllib.loads(shown.stdout)["name"] == tomllib.loads(text)["name"]
    without = CliRunner().invoke(main, ["pretrain", "--dataset", str(path), "--out", str(tmp_path / "b")])
    assert "needs its GAN: pass the file you have with --gan PATH" in without.stderr


def test_the_recipes_of_the_guide_are_presets(write) -> None:
    presets = {preset.name: preset for preset in (read_category(write(text)) for text in guide_examples())}
    assert presets.keys() == {"dogs", "afhqv2", "ffhqu", "heads32"}
    assert presets["ffhqu"].view_prior.std[3] > 0 and presets["ffhqu"].truncation == 0.5
