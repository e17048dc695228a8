"""Names of points in a picture: each beside its point, on nothing else, and none where there is no room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spa_bench.publish.report.names import FONT, place_names


def _points(spots: list[tuple[float, float]], name: str = "sampler-{}") -> list[dict[str, Any]]:
    """Points without width, in a plane whose corners are points, too."""
    return [
        {"sampler": name.format(i), "x": x, "x_low": x, "x_high": x, "y": y, "y_low": y, "y_high": y}
        for i, (x, y) in enumerate([*spots, (0.0, 0.0), (1.0, 1.0)])
    ]


def _boxes(points: list[dict[str, Any]], placed: list[dict[str, Any]], size: tuple[float, float]) -> list[tuple[float, ...]]:
    found = []
    for point, name in zip(points, placed, strict=True):
        x, y = 12 + point["x"] * (size[0] - 24), size[1] - 12 - point["y"] * (size[1] - 24)
        long = 0.5 * FONT * len(name["name"])
        left = x + name["dx"] - {"left": 0.0, "right": long, "center": long / 2}[name["align"]]
        found.append((left, y + name["dy"] - FONT / 2, left + long, y + name["dy"] + FONT / 2))
    return found


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize("seed", range(5))
def test_names_cover_no_other_name_and_stay_inside(seed: int):
    rng, size = np.random.default_rng(seed), (560.0, 380.0)
    points = _points([(float(x), float(y)) for x, y in rng.uniform(0.2, 0.8, (12, 2))])
    placed = place_names(points, size)
    assert sum(bool(name["name"]) for name in placed) >= 13
    boxes = [box for box, name in zip(_boxes(points, placed, size), placed, strict=True) if name["name"]]
    for place, box in enumerate(boxes):
        assert box[0] >= 0
        assert box[2] <= size[0]
        assert all(_apart(box, other) for other in boxes[:place])


def test_a_point_by_itself_has_its_name_to_the_right():
    [name, *_] = place_names(_points([(0.5, 0.5)]), (560, 380))
    assert (name["name"], name["align"], name["dy"]) == ("sampler-0", "left", 0)
    assert 0 < name["dx"] < 12


def test_a_name_that_has_no_room_is_left_out():
    [name, *_] = place_names(_points([(0.5, 0.5)], "x" * 200 + "{}"), (560, 380))
    assert name["name"] == ""
    assert place_names([], (560, 380)) == []


def test_points_in_one_place_have_names_apart():
    placed = place_names(_points([(0.5, 0.5)] * 4), (560, 380))
    assert len({(name["align"], name["dx"], name["dy"]) for name in placed[:4] if name["name"]}) == 4
