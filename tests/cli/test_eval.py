"""``lift3d eval``: the rows of the benchmark as JSON and as a table."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lift3d.cli.main import main

NAMES = [
    "lifted",
    "ellipsoid, canonical pose",
    "mean head, canonical pose",
    "random head, true pose",
    "mean head, true pose",
]


def test_rows_as_json(tiny_model: Path) -> None:
    result = CliRunner().invoke(
        main, ["eval", "--model", str(tiny_model), "--heads", "1", "--relight", "2", "--json"]
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert json.loads(result.stdout)["relighting"].keys() == {"direction", "l_x", "l_y"}
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        assert row["side_x100"] > 0 and 0 < row["mad_deg"] < 180 and 0 < row["mask_iou"] <= 1
    for name in ("albedo", "specular", "view_deg", "light_deg"):
        assert rows[0][name] > 0
        assert rows[1][name] is None
    assert [row["name"] for row in rows[0]["highlights"]] == ["predicted", "best constant", "black"]
    black = rows[0]["highlights"][2]
    assert (black["correlation"], black["ratio"]) == (0.0, 0.0) and black["error"] > 0.02
    assert not rows[1]["highlights"]


def test_rows_as_a_table_with_nothing_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from lift3d.evaluation.benchmark import Row
    from lift3d.evaluation.specular import SpecularRow

    lit = (SpecularRow("predicted", 0.03, 0.5, 0.75), SpecularRow("black", 0.06, 0.0, 0.0))
    rows = [
        Row("lifted", 1.0, 20.5, 0.9, albedo=0.25, highlights=lit),
        Row("ellipsoid", float("nan"), 20.0, 0.5),
    ]
    monkeypatch.setattr("lift3d.load", lambda name: None, raising=False)
    monkeypatch.setattr("lift3d.evaluation.benchmark.evaluate", lambda model, n_heads, observer: rows)
    result = CliRunner().invoke(main, ["eval"])
    assert result.exit_code == 0, result.output
    header, first, second, _, said, *lines = result.stdout.splitlines()
    assert "highlights" not in header and said.startswith("specular radiance where the true highlight is")
    assert [line.split() for line in lines] == [
        ["name", "error", "correlation", "ratio"],
        ["predicted", "0.030", "0.500", "0.750"],
        ["black", "0.060", "0.000", "0.000"],
    ]
    assert header.split()[:4] == ["name", "side_x100", "mad_deg", "mask_iou"]
    assert first.split()[:5] == ["lifted", "1.000", "20.500", "0.900", "0.250"]
    assert second.split()[:3] == ["ellipsoid", "-", "20.000"]
    assert json.loads(CliRunner().invoke(main, ["eval", "--json"]).stdout)["rows"][1]["side_x100"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "nobody"], "there is no model file nobody"),
        (["--heads", "0"], "number of benchmark heads is 0, expected 1..64"),
        (["--threads", "0"], "--threads is 0, expected at least 1"),
    ],
)
def test_bad_options(tiny_model: Path, arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["eval", "--model", str(tiny_model), *arguments])
    assert result.exit_code == 1
    assert sentence in result.stderr and result.stderr.count("\n") == 1
