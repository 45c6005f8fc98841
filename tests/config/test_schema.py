"""Configuration: what JSON keeps, and what it refuses with a sentence."""

import json
from dataclasses import FrozenInstanceError, asdict, dataclass, replace

import pytest

from lift3d.config.presets import DEMO, LSUN_CAR, PRESETS
from lift3d.config.schema import LossWeights, Preset, Schedule, from_plain
from lift3d.errors import ConfigError


def changed(**values: object) -> str:
    """The demo preset as JSON with other values at its top level."""
    return json.dumps({**asdict(DEMO), **values})


def without(data: dict, *path: str) -> str:
    """``data`` as JSON without one setting."""
    data = json.loads(json.dumps(data))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(data)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_survives_the_round_trip(preset: Preset) -> None:
    again = Preset.from_json(preset.to_json())
    assert again == preset
    assert again.to_json() == preset.to_json()
    assert hash(again) == hash(preset)  # tuples, not lists


def test_every_value_is_read_back_not_defaulted() -> None:
    other = replace(DEMO, weights=LossWeights(9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0), background=0.25, n_code=7)
    assert Preset.from_json(other.to_json()) == other != DEMO


def test_integers_are_welcome_where_reals_are_expected() -> None:
    preset = Preset.from_json(changed(background=1, radii=[0.75, 0.5, 0.5]))
    assert preset.background == 1.0 and type(preset.background) is float
    assert preset.radii == (0.75, 0.5, 0.5) and all(type(r) is float for r in preset.radii)


def test_defaults_fill_in_what_has_one() -> None:
    assert Preset.from_json(without(asdict(DEMO), "truncation")).truncation == 0.7
    assert Preset.from_json(without(asdict(DEMO), "weights", "beta")).weights.beta == 3e-5


def test_retired_settings_of_older_files_are_left_out() -> None:
    old = asdict(DEMO.refine) | {"edges": [0.1, 0.2], "seen": 2.0, "unseen": 5.0}
    assert Preset.from_json(changed(refine=old)) == DEMO
    with pytest.raises(ConfigError, match="refine: unknown setting 'edge', known are iterations"):
        Preset.from_json(changed(refine={"edge": 1.0}))


def test_null_is_welcome_only_where_it_means_something() -> None:
    assert Preset.from_json(changed(joint=None, background=None, masks="none", n_unlabeled=0)).joint is None
    with pytest.raises(ConfigError, match="preset.size is None, expected int"):
        Preset.from_json(changed(size=None))


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        DEMO.size = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "preset is not JSON: Expecting property name"),
        ("[1]", r"preset is \[1\], expected a table of Preset"),
        (changed(color=1), "preset: unknown setting 'color', known are name, size, radii"),
        (changed(weights={"mask": 0.1, "mark": 1.0}), "weights: unknown setting 'mark', known are view"),
        (without(asdict(DEMO), "radii"), "preset: setting 'radii' is missing"),
        (without(asdict(DEMO), "joint", "align"), "preset.joint: setting 'align' is missing"),
        (changed(size="64"), "preset.size is '64', expected int"),
        (changed(size=64.0), "preset.size is 64.0, expected int"),
        (changed(size=True), "preset.size is True, expected int"),
        (changed(truncation=True), "preset.truncation is True, expected float"),
        (changed(name=3), "preset.name is 3, expected str"),
        (changed(weights=[1, 2]), r"weights is \[1, 2\], expected a table of Loss"),
        (changed(radii=0.5), "preset.radii is 0.5, expected a list"),
        (changed(radii="wide"), "preset.radii is 'wide', expected a list"),
        (changed(radii=[0.5, 0.6]), "preset.radii has 2 numbers, expected 3"),
        (changed(radii=[0.5, "a", 0.6]), r"preset.radii\[1\] is 'a', expected float"),
        (changed(instance=[{}]), r"preset.instance\[0\]: setting 'size' is missing"),
    ],
)
def test_nonsense_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preset.from_json(text)


def test_tuples_of_any_length_keep_theirs() -> None:
    assert len(Preset.from_json(LSUN_CAR.to_json()).instance) == 2
    assert Preset.from_json(changed(instance=[])).instance == ()


def test_checks_of_the_parts_hold_for_files_too() -> None:
    with pytest.raises(ConfigError, match="view prior: mean needs 6 numbers"):
        Preset.from_json(changed(view_prior={"mean": [0.0]}))
    with pytest.raises(ConfigError, match="light prior: l_x is"):
        Preset.from_json(changed(light_prior={"l_x": [1.0, -1.0]}))


def test_build_reads_any_dataclass() -> None:
    @dataclass(frozen=True)
    class Outer:
        inner: Schedule | None
        pairs: tuple[float, float]

    assert from_plain(Outer, {"inner": None, "pairs": [1, 2]}, "x") == Outer(None, (1.0, 2.0))


def test_a_preset_prints_on_one_line() -> None:
    assert repr(DEMO) == "Preset('demo', 64 pixels)"
