"""Places for the names of points, so that names cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FONT = 12  # pixels
_WIDTH = 0.56 * FONT  # the average width of a character
_HEIGHT = FONT + 2.0
_POINT = 6.0  # half the side of the square that a point occupies
_EDGE = 12.0  # pixels between the outermost intervals and the edge
_SIDES = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))  # right first, then left, above and below
_AWAY = (8.0, 14.0, 22.0, 30.0)  # pixels from a point to its name; the nearest free place is taken


def place_names(points: Sequence[Mapping[str, Any]], size: tuple[float, float]) -> list[dict[str, Any]]:
    """For each point {"name", "align", "dx", "dy"}, in pixels from the point; the name is empty where there is no space.

    `points` have `sampler`, `x`, `y` and their intervals; `size` is the width and the height of the plane in pixels.
    """
    if not points:
        return []
    spots = np.stack([_pixels(points, "x", size[0]), size[1] - _pixels(points, "y", size[1])], axis=1)
    taken = np.concatenate([spots - _POINT, spots + _POINT], axis=1)  # boxes: left, top, right, bottom
    labels: list[dict[str, Any]] = []
    for point, spot in zip(points, spots, strict=True):
        long = _WIDTH * len(point["sampler"])
        places = [(side, away) for away in _AWAY for side in _SIDES]
        boxes = np.array([_box(spot, side, away, long) for side, away in places])
        apart = (
            (boxes[:, None, 2] <= taken[None, :, 0])
            | (boxes[:, None, 0] >= taken[None, :, 2])
            | (boxes[:, None, 3] <= taken[None, :, 1])
            | (boxes[:, None, 1] >= taken[None, :, 3])
        )
        inside = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= size).all(axis=1)
        free = np.flatnonzero(apart.all(axis=1) & inside)
        if not len(free):
            labels.append({"name": "", "align": "left", "dx": 0, "dy": 0})
            continue
        (across, down), away = places[free[0]]
        align = {1: "left", -1: "right", 0: "center"}[across]
        dx, dy = _offset((across, down), away)
        labels.append({"name": point["sampler"], "align": align, "dx": dx, "dy": dy})
        taken = np.concatenate([taken, boxes[free[:1]]])
    return labels


def _pixels(points: Sequence[Mapping[str, Any]], axis: str, length: float) -> np.ndarray:
    """The positions of the points, in pixels, on an axis that shows all intervals."""
    low, high = min(p[f"{axis}_low"] for p in points), max(p[f"{axis}_high"] for p in points)
    step = (length - 2 * _EDGE) / ((high - low) or 1.0)
    return np.array([_EDGE + (p[axis] - low) * step for p in points])


def _offset(side: tuple[int, int], away: float) -> tuple[float, float]:
    """The offset from a point to the middle of the near edge of its name: horizontal, vertical or diagonal."""
    across, down = side
    return (across * away * (0.75 if down else 1.0), down * (away + _HEIGHT / 4))


def _box(spot: np.ndarray, side: tuple[int, int], away: float, long: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a name on that side of `spot`."""
    dx, dy = _offset(side, away)
    left = spot[0] + dx - {1: 0.0, -1: long, 0: long / 2}[side[0]]
    middle = spot[1] + dy
    return (left, middle - _HEIGHT / 2, left + long, middle + _HEIGHT / 2)
