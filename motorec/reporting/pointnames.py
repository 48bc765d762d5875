"""Names beside the points of a crowded scatter plot, each where it can be read and is nobody else's.

Where points crowd as models do in `motorec.reporting.cost`, libraries for it let names touch a neighbour's point
(adjustText) or stand far off, and over others (textalloc). Here each has a fixed set of places and takes the cheapest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

LETTERS = 9  # points
# Where a name may stand, from its point: sixteen directions, at some distances in points.
ANGLES = np.pi / 8 * np.arange(16)
DISTANCES = (3.0, 9.0, 16.0, 24.0, 34.0, 46.0)
BESIDE = 5.0  # points: from further away, a line leads to the name
CLEAR = 5.0  # points by which a name beside its point is to be nearer to it than to others; one with a line, off others
ROUNDS = 20  # at most, of moving one name after the other


def write_names(
    axis: Axes,
    points: Float[np.ndarray, "n 2"],
    names: list[str],
    areas: Float[np.ndarray, " n"],
    line: Float[np.ndarray, "corners 2"],
) -> None:
    """Write each point's name where it can be read and is nobody else's, and draw a line to it from afar.

    Args:
        axis: A panel whose limits are final, in a figure that has been laid out.
        points: Where the points are, in the units of the axes.
        names: Their names.
        areas: Their areas, in square typographic points, as `scatter` takes them.
        line: The corners of a line that names should not cover, in the units of the axes.
    """
    figure = axis.figure
    scale = figure.dpi / 72  # pixels of a typographic point
    style: dict[str, Any] = {
        "fontsize": LETTERS,
        "path_effects": [withStroke(linewidth=2.5, foreground="white")],
        "zorder": 4,
    }
    written = [axis.text(x, y, name, **style) for (x, y), name in zip(points, names, strict=True)]
    sizes = np.array([text.get_window_extent().size for text in written])
    pixels = axis.transData.transform(points)
    frame = axis.get_window_extent()
    within = np.array([frame.x0, frame.y0, frame.x1, frame.y1])
    spots = place_names(pixels, scale * np.sqrt(areas) / 2, sizes, within, axis.transData.transform(line), scale)
    back = axis.transData.inverted()
    for text, spot in zip(written, spots, strict=True):
        x, y = back.transform(spot.box[:2])
        text.set_position((x, y))
        text.set_verticalalignment("bottom")
        text.set_in_layout(False)  # the panel is to stay where it is
        if np.hypot(*(spot.leader[1] - spot.leader[0])) > scale * BESIDE:
            axis.plot(*back.transform(spot.leader).T, color="0.45", linewidth=0.7, zorder=2, label="_leader")


@dataclass(frozen=True)
class Spot:
    """Where a name stands: its box (left, bottom, right, top) and the line from its point's edge to it, in pixels."""

    box: Float[np.ndarray, " 4"]
    leader: Float[np.ndarray, "2 2"]


def place_names(
    points: Float[np.ndarray, "n 2"],
    radii: Float[np.ndarray, " n"],
    sizes: Float[np.ndarray, "n 2"],
    frame: Float[np.ndarray, " 4"],
    line: Float[np.ndarray, "corners 2"],
    scale: float = 1.0,
) -> list[Spot]:
    """Find a place for each point's name: off other names, points and their lines, inside the frame, near its point.

    One name after the other is moved to its best place, the others being where they are, until none moves.

    Args:
        points: Where the points are.
        radii: Their radii.
        sizes: Widths and heights of the names.
        frame: What the names are to stay in: left, bottom, right, top.
        line: A line that they should not cover.
        scale: Pixels in a unit of `DISTANCES`.
    """
    markers = np.column_stack([points - radii[:, None], points + radii[:, None]])
    segments = np.stack([line[:-1], line[1:]], axis=1)
    every = [_spots(*one, scale) for one in zip(points, radii, sizes, strict=True)]
    alone = []
    for place, spots in enumerate(every):
        boxes, leaders = np.stack([spot.box for spot in spots]), np.stack([spot.leader for spot in spots])
        others = np.delete(markers, place, axis=0)
        apart = np.hypot(*(leaders[:, 1] - leaders[:, 0]).T) / scale
        gaps = _gap(boxes, points) - radii
        nearest = np.delete(gaps, place, axis=1).min(axis=1, initial=np.inf)
        unclear = nearest < np.where(apart > BESIDE, 0.0, gaps[:, place]) + scale * CLEAR
        outside = (boxes[:, :2] < frame[:2]).any(axis=1) | (boxes[:, 2:] > frame[2:]).any(axis=1)
        alone.append(
            apart
            + 4 * (np.arange(len(spots)) % len(ANGLES) % 4 != 0)  # aslant
            + 80 * unclear  # it may be read as the other's
            + 200 * outside
            + 60 * _overlap(boxes, others).sum(axis=1)
            + 60 * _hits(leaders, others).sum(axis=1)
            + 25 * _hits(segments, boxes).any(axis=0)
        )
    chosen: list[int | None] = [None] * len(points)
    for _ in range(ROUNDS):
        before = list(chosen)
        for place, spots in enumerate(every):
            rest = [every[j][k] for j, k in enumerate(chosen) if j != place and k is not None]
            total = alone[place]
            if rest:
                boxes, leaders = np.stack([spot.box for spot in spots]), np.stack([spot.leader for spot in spots])
                taken, lines = np.stack([spot.box for spot in rest]), np.stack([spot.leader for spot in rest])
                total = (
                    total
                    + 100 * _overlap(boxes, taken).sum(axis=1)
                    + 60 * _hits(leaders, taken).sum(axis=1)
                    + 60 * _hits(lines, boxes).sum(axis=0)
                    + 30 * _cross(leaders, lines).sum(axis=1)
                )
            chosen[place] = int(total.argmin())
        if chosen == before:
            break
    return [spots[place or 0] for spots, place in zip(every, chosen, strict=True)]


def _spots(point: Float[np.ndarray, " 2"], radius: float, size: Float[np.ndarray, " 2"], scale: float) -> list[Spot]:
    """Every place that a name may have, the nearest first and there the one to the right."""
    spots = []
    for distance in DISTANCES:
        for angle in ANGLES:
            way = np.array([np.cos(angle), np.sin(angle)])
            start, end = point + radius * way, point + (radius + scale * distance) * way
            # Beside the end of the line, or above or below it, with its middle there.
            middle = end + np.sign(way.round(6)) * size / 2 * np.where(np.abs(way) > 0.3, 1, 0)
            spots.append(Spot(np.concatenate([middle - size / 2, middle + size / 2]), np.stack([start, end])))
    return spots


def _overlap(boxes: Float[np.ndarray, "a 4"], others: Float[np.ndarray, "b 4"]) -> Bool[np.ndarray, "a b"]:
    """Which boxes overlap which."""
    one, other = boxes[:, None], others[None]
    return np.all((one[..., :2] < other[..., 2:]) & (one[..., 2:] > other[..., :2]), axis=-1)


def _gap(boxes: Float[np.ndarray, "a 4"], points: Float[np.ndarray, "b 2"]) -> Float[np.ndarray, "a b"]:
    """How far each point is from each box."""
    outside = np.maximum(boxes[:, None, :2] - points[None], points[None] - boxes[:, None, 2:])
    return np.hypot(*np.moveaxis(np.maximum(outside, 0.0), -1, 0))


def _hits(lines: Float[np.ndarray, "a 2 2"], boxes: Float[np.ndarray, "b 4"]) -> Bool[np.ndarray, "a b"]:
    """Which straight lines run through which boxes, by points along them."""
    steps = np.linspace(0.0, 1.0, 101)[:, None]
    along = lines[:, None, 0] * (1 - steps) + lines[:, None, 1] * steps
    inside = (along[:, None] > boxes[None, :, None, :2]) & (along[:, None] < boxes[None, :, None, 2:])
    return np.any(np.all(inside, axis=-1), axis=-1)


def _cross(lines: Float[np.ndarray, "a 2 2"], others: Float[np.ndarray, "b 2 2"]) -> Bool[np.ndarray, "a b"]:
    """Which straight lines cross which."""

    def side(line: Float[np.ndarray, "_ _ 2 2"], point: Float[np.ndarray, "_ _ 2"]) -> Float[np.ndarray, "a b"]:
        way, to = line[..., 1, :] - line[..., 0, :], point - line[..., 0, :]
        return way[..., 0] * to[..., 1] - way[..., 1] * to[..., 0]

    one, other = lines[:, None], others[None]
    apart = side(one, other[..., 0, :]) * side(one, other[..., 1, :]) < 0
    return apart & (side(other, one[..., 0, :]) * side(other, one[..., 1, :]) < 0)
