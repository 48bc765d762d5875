"""The cuts of garments: outlines, straps, trims and seams of every kind.

A garment lies in its own square of -1..1, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "_ 2"]
Number = float | int  # outlines are full of whole numbers, which the checks of types in tests tell from floats


@dataclass(frozen=True)
class Shape:
    """A cut of one kind of garment, in the garment's own square.

    Attributes:
        body: Outlines whose union takes colour and pattern.
        straps: Thick lines that belong to the body: (points, width).
        inside: Outlines, cut to the body, through which one looks at the back of the garment: darker.
        trims: Outlines in the accent's place: collars, soles, buttons. They may reach beyond the body.
        seams: Thin dark lines, drawn on the body only.
        rounding: Radius of the corners of the body.
    """

    body: tuple[Points, ...]
    straps: tuple[tuple[Points, float], ...] = ()
    inside: tuple[Points, ...] = ()
    trims: tuple[Points, ...] = ()
    seams: tuple[Points, ...] = ()
    rounding: float = 0.05


def vertices(*pairs: tuple[Number, Number]) -> Points:
    """An outline or line from its corners."""
    return np.array(pairs, dtype=np.float64)


def _mirrored(*pairs: tuple[Number, Number]) -> Points:
    """A symmetric outline from its right half, listed from the middle of the top to the middle of the bottom."""
    half = vertices(*pairs)
    left = half[::-1] * (-1, 1)
    return np.concatenate([half, left[np.abs(left[:, 0]) > 0]])


def _both(*pairs: tuple[Number, Number]) -> tuple[Points, Points]:
    """A line or outline and its mirror image."""
    right = vertices(*pairs)
    return right, right * (-1, 1)


def ellipse(x: Number, y: Number, rx: Number, ry: Number, start: Number = 0.0, stop: Number = 360.0) -> Points:
    """An ellipse, or the arc of one from `start` to `stop` (degrees, clockwise from the right)."""
    angles = np.radians(np.linspace(start, stop, 40))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def _moved(points: Points, scale: Number, x: Number, y: Number) -> Points:
    return points * scale + (x, y)


def rounded(outline: Points, radius: Number) -> Points:
    """Replace every corner of a closed outline by a curve that starts `radius` before it and ends `radius` after it."""
    before = np.roll(outline, 1, axis=0) - outline
    after = np.roll(outline, -1, axis=0) - outline
    reach_before = np.minimum(0.5, radius / np.maximum(np.linalg.norm(before, axis=1), 1e-9))[:, None]
    reach_after = np.minimum(0.5, radius / np.maximum(np.linalg.norm(after, axis=1), 1e-9))[:, None]
    start, stop = outline + before * reach_before, outline + after * reach_after
    steps = np.linspace(0, 1, 6)[:, None, None]
    curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * outline + steps**2 * stop
    return curve.transpose(1, 0, 2).reshape(-1, 2)


# One pair of numbers a line would hide the outlines.
# fmt: off
def _buttons(x: Number, ys: tuple[float, ...], radius: Number = 0.028) -> tuple[Points, ...]:
    return tuple(ellipse(x, y, radius, radius) for y in ys)


def _t_shirt() -> Shape:
    return Shape(
        body=(
            _mirrored(
                (0, -0.76), (0.24, -0.78), (0.5, -0.68), (0.96, -0.26), (0.74, -0.02),
                (0.54, -0.2), (0.53, 0.82), (0, 0.86)
            ),
        ),
        inside=(ellipse(0, -0.79, 0.21, 0.19),),
        seams=(
            *_both((0.5, -0.68), (0.53, -0.45), (0.54, -0.2)),
            *_both((0.91, -0.31), (0.69, -0.07)),
            vertices((-0.53, 0.75), (0, 0.79), (0.53, 0.75)),
            ellipse(0, -0.79, 0.26, 0.24, 0, 180),
        ),
    )


def _shirt() -> Shape:
    return Shape(
        body=(
            _mirrored(
                (0, -0.76), (0.22, -0.82), (0.48, -0.72), (0.68, -0.48), (0.98, 0.42), (0.78, 0.52), (0.53, -0.14),
                (0.52, 0.68), (0.4, 0.82), (0.2, 0.88), (0, 0.84),
            ),
        ),
        inside=(vertices((-0.2, -0.84), (0.2, -0.84), (0.0, -0.56)),),
        trims=(
            *_both((0.0, -0.55), (0.19, -0.86), (0.31, -0.76), (0.17, -0.5)),
            *_buttons(0.0, (-0.38, -0.14, 0.1, 0.34, 0.58)),
        ),
        seams=(
            vertices((0.06, -0.5), (0.06, 0.85)),
            vertices((-0.06, -0.5), (-0.06, 0.85)),
            *_both((0.48, -0.72), (0.51, -0.45), (0.53, -0.14)),
            *_both((0.94, 0.28), (0.74, 0.38)),
            vertices((0.18, -0.28), (0.42, -0.28), (0.42, -0.06), (0.3, 0.02), (0.18, -0.06), (0.18, -0.28)),
        ),
        rounding=0.04,
    )


def _jumper() -> Shape:
    ribs = tuple(vertices((x, 0.7), (x, 0.9)) for x in np.linspace(-0.5, 0.5, 21))
    return Shape(
        body=(
            _mirrored(
                (0, -0.74), (0.22, -0.8), (0.52, -0.68), (0.76, -0.38), (1.0, 0.5), (0.8, 0.62),
                (0.58, -0.04), (0.6, 0.62),
                (0.54, 0.72), (0.54, 0.88), (0, 0.88),
            ),
        ),
        inside=(ellipse(0, -0.8, 0.19, 0.1),),
        seams=(
            ellipse(0, -0.8, 0.25, 0.17, 0, 180),
            ellipse(0, -0.8, 0.22, 0.135, 0, 180),
            vertices((-0.56, 0.69), (0.56, 0.69)),
            *_both((0.95, 0.34), (0.74, 0.46)),
            *_both((0.52, -0.68), (0.56, -0.4), (0.58, -0.04)),
            *ribs,
        ),
        rounding=0.11,
    )


def _coat() -> Shape:
    return Shape(
        body=(
            _mirrored(
                (0, -0.86), (0.2, -0.92), (0.44, -0.82), (0.62, -0.6), (0.86, 0.26), (0.66, 0.35),
                (0.47, -0.2), (0.45, 0.1),
                (0.58, 0.94), (0, 0.96),
            ),
        ),
        inside=(vertices((-0.18, -0.95), (0.18, -0.95), (0.0, -0.46)),),
        trims=(
            *_both((0.0, -0.26), (0.17, -0.95), (0.32, -0.84), (0.33, -0.56), (0.24, -0.52)),
            *_buttons(0.12, (-0.12, 0.14, 0.4), 0.036),
            *_buttons(-0.12, (-0.12, 0.14, 0.4), 0.036),
        ),
        seams=(
            vertices((0.0, -0.26), (0.0, 0.96)),
            *_both((0.44, -0.82), (0.47, -0.55), (0.47, -0.2)),
            *_both((0.82, 0.12), (0.62, 0.21)),
            *_both((0.22, 0.34), (0.42, 0.29), (0.44, 0.38), (0.23, 0.43), (0.22, 0.34)),
        ),
        rounding=0.05,
    )


def _dress() -> Shape:
    pleats = (
        *_both((0.06, -0.1), (0.15, 0.9)), *_both((0.14, -0.1), (0.34, 0.88)), *_both((0.2, -0.1), (0.5, 0.86)),
    )
    return Shape(
        body=(
            _mirrored(
                (0, -0.56), (0.12, -0.62), (0.18, -0.94), (0.28, -0.94), (0.33, -0.62), (0.31, -0.4), (0.22, -0.14),
                (0.3, 0.12), (0.46, 0.5), (0.66, 0.86), (0.34, 0.93), (0, 0.95),
            ),
        ),
        seams=(vertices((-0.24, -0.15), (0, -0.12), (0.24, -0.15)), *pleats),
        rounding=0.1,
    )


def _tea_dress() -> Shape:
    return Shape(
        body=(
            _mirrored(
                (0, -0.84), (0.2, -0.92), (0.38, -0.84), (0.62, -0.5), (0.44, -0.36), (0.33, -0.5), (0.25, -0.12),
                (0.36, 0.2), (0.5, 0.92), (0, 0.94),
            ),
        ),
        inside=(vertices((-0.17, -0.95), (0.17, -0.95), (0.0, -0.6)),),
        trims=(_mirrored((0, -0.16), (0.26, -0.17), (0.26, -0.09), (0, -0.08)),),
        seams=(
            *_both((0.38, -0.84), (0.35, -0.65), (0.33, -0.5)),
            *_both((0.08, -0.06), (0.14, 0.92)),
            *_both((0.17, -0.06), (0.32, 0.92)),
        ),
        rounding=0.07,
    )


def _skirt() -> Shape:
    pleats = tuple(vertices((x * 0.36, -0.5), (x * 0.76, 0.68)) for x in np.linspace(-0.8, 0.8, 7))
    return Shape(
        body=(_mirrored((0, -0.68), (0.36, -0.7), (0.38, -0.52), (0.58, 0.02), (0.8, 0.62), (0.4, 0.72), (0, 0.75)),),
        seams=(vertices((-0.38, -0.53), (0, -0.51), (0.38, -0.53)), *pleats),
        rounding=0.07,
    )


def _pencil_skirt() -> Shape:
    return Shape(
        body=(_mirrored((0, -0.8), (0.34, -0.8), (0.46, -0.4), (0.47, 0.0), (0.38, 0.84), (0, 0.85)),),
        trims=_buttons(0.0, (-0.58, -0.34, -0.1, 0.14)),
        seams=(
            vertices((-0.37, -0.68), (0.37, -0.68)),
            vertices((0.07, -0.68), (0.07, 0.85)),
            *_both((0.24, -0.66), (0.27, -0.36)),
        ),
        rounding=0.06,
    )


def _trousers() -> Shape:
    return Shape(
        body=(
            _mirrored(
                (0, -0.92), (0.36, -0.92), (0.44, -0.5), (0.46, 0.93), (0.15, 0.94), (0.035, -0.24), (0, -0.28),
            ),
        ),
        seams=(
            vertices((-0.37, -0.8), (0.37, -0.8)),
            vertices((0.0, -0.8), (0.0, -0.28)),
            vertices((0.0, -0.44), (0.07, -0.52), (0.08, -0.8)),
            *_both((0.2, -0.8), (0.28, -0.62), (0.42, -0.58)),
            *_both((0.24, -0.5), (0.3, 0.92)),
        ),
        rounding=0.03,
    )


def _wide_trousers() -> Shape:
    return Shape(
        body=(_mirrored((0, -0.9), (0.32, -0.9), (0.42, -0.5), (0.68, 0.9), (0.2, 0.94), (0.03, -0.2), (0, -0.24)),),
        trims=(_mirrored((0, -0.92), (0.33, -0.92), (0.35, -0.8), (0, -0.79)),),
        seams=(vertices((0, -0.8), (0, -0.24)), *_both((0.2, -0.78), (0.42, 0.92)), *_both((0.27, -0.76), (0.4, -0.5))),
        rounding=0.03,
    )


def _shorts() -> Shape:
    return Shape(
        body=(_mirrored((0, -0.6), (0.5, -0.6), (0.56, -0.3), (0.72, 0.52), (0.14, 0.62), (0.03, 0.1), (0, 0.06)),),
        seams=(
            vertices((-0.52, -0.44), (0.52, -0.44)),
            vertices((0, -0.44), (0, 0.06)),
            *_both((0.3, -0.44), (0.4, -0.22), (0.58, -0.18)),
            *_both((0.13, 0.5), (0.7, 0.4)),
            *_both((0.04, -0.6), (0.1, -0.28)),
        ),
        rounding=0.04,
    )


def _sun_hat() -> Shape:
    crown = _mirrored((0, -0.58), (0.26, -0.56), (0.42, -0.36), (0.5, 0.2), (0, 0.3))
    return Shape(
        body=(crown, ellipse(0, 0.2, 0.97, 0.3)),
        trims=(_mirrored((0, 0.06), (0.475, 0.0), (0.5, 0.2), (0.3, 0.27), (0, 0.3)),),
        seams=(ellipse(0, 0.2, 0.86, 0.24, 0, 180),),
        rounding=0.16,
    )


def _beanie() -> Shape:
    dome = _mirrored((0, -0.66), (0.3, -0.62), (0.54, -0.36), (0.62, 0.04), (0.62, 0.4), (0, 0.42))
    cuff = _mirrored((0, 0.2), (0.67, 0.18), (0.68, 0.58), (0, 0.62))
    ribs = tuple(vertices((x, 0.2), (x * 1.01, 0.61)) for x in np.linspace(-0.6, 0.6, 15))
    return Shape(
        body=(dome, cuff, ellipse(0, -0.72, 0.17, 0.17)),
        seams=(vertices((-0.67, 0.19), (0, 0.21), (0.67, 0.19)), *ribs, ellipse(0, -0.72, 0.17, 0.17, 20, 160)),
        rounding=0.12,
    )


def _scarf() -> Shape:
    fringe = tuple(
        (vertices((x, y), (x + tilt, y + 0.14)), 0.028)
        for start, stop, y, tilt in ((0.06, 0.4, 0.74, 0.02), (-0.38, -0.1, 0.52, -0.02))
        for x in np.linspace(start + 0.01, stop - 0.01, 7)
    )
    loop = ellipse(0, -0.48, 0.42, 0.3, 0, 375)  # past its beginning, so that no joint shows
    right = vertices((-0.06, -0.3), (0.28, -0.34), (0.36, 0.2), (0.42, 0.74), (0.06, 0.76), (0.02, 0.2))
    left = vertices((-0.3, -0.34), (0.0, -0.3), (-0.04, 0.2), (-0.08, 0.54), (-0.42, 0.52), (-0.36, 0.1))
    return Shape(
        body=(right, left),
        straps=((loop, 0.26), *fringe),
        seams=(
            ellipse(0, -0.48, 0.29, 0.17),
            ellipse(0, -0.48, 0.42, 0.3, 20, 160),
            vertices((-0.04, -0.3), (0.02, 0.2), (0.05, 0.76)),
            vertices((0.1, -0.2), (0.2, 0.72)),
            vertices((-0.2, -0.2), (-0.24, 0.5)),
        ),
        rounding=0.06,
    )


def _shoe() -> tuple[Points, Points, tuple[Points, ...]]:
    """A trainer from the side: upper, sole, seams."""
    upper = vertices(
        (-0.9, 0.34), (-0.92, -0.1), (-0.86, -0.36), (-0.66, -0.36), (-0.5, -0.24), (-0.3, -0.34), (-0.14, -0.36),
        (0.16, -0.06), (0.5, 0.06), (0.8, 0.14), (0.92, 0.3), (0.9, 0.36),
    )
    sole = vertices(
        (-0.95, 0.28), (-0.2, 0.34), (0.6, 0.33), (0.95, 0.27), (0.97, 0.4), (0.88, 0.5), (-0.9, 0.5), (-0.97, 0.42),
    )
    laces = tuple(vertices((x, y), (x - 0.1, y + 0.17)) for x, y in ((-0.1, -0.3), (0.02, -0.18), (0.14, -0.06)))
    seams = (
        *laces,
        vertices((-0.5, -0.24), (-0.44, 0.1), (-0.5, 0.33)),
        vertices((0.42, 0.04), (0.36, 0.16), (0.44, 0.34)),
        vertices((-0.88, 0.0), (-0.68, 0.06), (-0.6, 0.32)),
    )
    return upper, sole, seams


def _shoes() -> Shape:
    upper, sole, seams = _shoe()
    back = (0.74, 0.22, -0.42)
    front = (0.86, -0.1, 0.28)
    return Shape(
        body=(_moved(upper, *back), _moved(upper, *front)),
        trims=(_moved(sole, *back), _moved(sole, *front)),
        seams=tuple(_moved(seam, *place) for place in (back, front) for seam in seams),
        rounding=0.09,
    )


def _boots() -> Shape:
    upper = vertices(
        (-0.5, 0.62), (-0.54, 0.1), (-0.5, -0.7), (0.0, -0.72), (0.04, -0.1), (0.16, 0.14),
        (0.5, 0.28), (0.66, 0.5), (0.64, 0.64)
    )
    sole = vertices((-0.54, 0.58), (0.68, 0.6), (0.7, 0.72), (-0.2, 0.72), (-0.24, 0.8), (-0.54, 0.8))
    seams = (
        vertices((-0.5, -0.58), (0.0, -0.6)),
        vertices((-0.3, -0.7), (-0.28, -0.1), (-0.2, 0.1)),
        vertices((0.02, -0.1), (-0.14, 0.2), (-0.3, 0.6)),
        vertices((0.24, 0.2), (0.18, 0.4), (0.24, 0.6)),
    )
    back, front = (0.86, 0.28, -0.16), (0.92, -0.26, 0.14)
    return Shape(
        body=(_moved(upper, *back), _moved(upper, *front)),
        trims=(_moved(sole, *back), _moved(sole, *front)),
        seams=(
            *(_moved(seam, *place) for place in (back, front) for seam in seams),
            _moved(upper[3:7], *front),
        ),
        rounding=0.1,
    )


def _tote() -> Shape:
    return Shape(
        body=(_mirrored((0, -0.2), (0.6, -0.2), (0.68, 0.84), (0, 0.88)),),
        straps=((ellipse(0, -0.18, 0.34, 0.66, 180, 360), 0.08),),
        seams=(
            vertices((-0.61, -0.1), (0.61, -0.1)),
            *_both((0.3, -0.2), (0.38, -0.2), (0.38, 0.0), (0.3, 0.0), (0.3, -0.2)),
            vertices((-0.66, 0.74), (0.66, 0.74)),
        ),
        rounding=0.04,
    )


def _handbag() -> Shape:
    return Shape(
        body=(_mirrored((0, -0.24), (0.56, -0.26), (0.78, 0.66), (0.7, 0.76), (0, 0.78)),),
        straps=((ellipse(0, -0.2, 0.38, 0.54, 180, 360), 0.07),),
        trims=(ellipse(0, 0.26, 0.075, 0.075),),
        seams=(
            vertices((-0.62, -0.1), (-0.46, 0.16), (0, 0.3), (0.46, 0.16), (0.62, -0.1)),
            vertices((-0.7, 0.66), (0.7, 0.66)),
        ),
        rounding=0.08,
    )
# fmt: on


SHAPES: Mapping[str, tuple[Callable[[], Shape], ...]] = {
    "t-shirt": (_t_shirt,),
    "shirt": (_shirt,),
    "jumper": (_jumper,),
    "coat": (_coat,),
    "dress": (_dress, _tea_dress),
    "skirt": (_skirt, _pencil_skirt),
    "trousers": (_trousers, _wide_trousers),
    "shorts": (_shorts,),
    "hat": (_sun_hat, _beanie),
    "scarf": (_scarf,),
    "shoes": (_shoes, _boots),
    "bag": (_tote, _handbag),
}
