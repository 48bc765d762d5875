"""Draws one garment: what its kind, colour and pattern look like, and nothing about material, style or brand.

The garment lies in its own square (`garment_shapes`); a pose maps that square into the picture. Outlines are drawn at
three times the size and reduced; patterns, folds and light are functions of the garment's own coordinates, so that they
turn and scale with it.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

from motorec.data.garment_shapes import SHAPES, Points, ellipse, rounded, vertices

Plane = Float[np.ndarray, "size size"]
Picture = Float[np.ndarray, "3 size size"]  # channels first, so that planes spread over it fast
Colour = Float[np.ndarray, "3 1 1"]
Paint = Float[np.ndarray, "3 #size #size"]  # a colour or a picture

OVERSAMPLING = 3

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (200, 34, 44),
    "orange": (238, 126, 28),
    "yellow": (244, 206, 56),
    "green": (44, 132, 76),
    "blue": (62, 128, 212),
    "navy": (32, 44, 98),
    "purple": (118, 62, 158),
    "pink": (242, 150, 186),
    "brown": (122, 76, 44),
    "grey": (140, 143, 148),
    "black": (36, 36, 40),
    "white": (242, 240, 234),
}


@dataclass(frozen=True)
class Pose:
    """How the garment's square lies in the picture's square of -1..1."""

    scale: tuple[float, float]
    angle: float
    shift: tuple[float, float]

    def place(self, points: Points) -> Points:
        """From the garment's square to the picture's."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return (points * self.scale) @ np.array([[cos, sin], [-sin, cos]]) + self.shift

    def garment_coordinates(self, size: int) -> tuple[Plane, Plane]:
        """For every pixel, where in the garment's square it lies."""
        line = _pixel_centres(size)
        x, y = np.meshgrid(line - self.shift[0], line - self.shift[1])
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return (cos * x + sin * y) / self.scale[0], (-sin * x + cos * y) / self.scale[1]


def _pixel_centres(size: int) -> Float[np.ndarray, " size"]:
    return ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)


class _Stencil:
    """Draws coverage planes: outlines in -1..1 to values of 0..1 per pixel, antialiased."""

    def __init__(self, size: int, pose: Pose) -> None:
        self.size = size
        self.pose = pose

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        large = (self.pose.place(points) + 1) / 2 * self.size * OVERSAMPLING
        return [(float(x), float(y)) for x, y in large]

    def cover(
        self,
        outlines: tuple[Points, ...] = (),
        lines: tuple[Points, ...] = (),
        straps: tuple[tuple[Points, float], ...] = (),
        line_width: float = 0.014,
    ) -> Plane:
        """The share of every pixel that the outlines, lines and straps cover together."""
        image = Image.new("L", (self.size * OVERSAMPLING,) * 2)
        draw = ImageDraw.Draw(image)
        unit = self.size * OVERSAMPLING / 2 * (self.pose.scale[0] + self.pose.scale[1]) / 2
        for points, width in (*straps, *((line, line_width) for line in lines)):
            draw.line(self._pixels(points), fill=255, width=max(1, round(width * unit)), joint="curve")
        for outline in outlines:
            draw.polygon(self._pixels(outline), fill=255)
        return np.asarray(image.reduce(OVERSAMPLING), dtype=np.float32) / 255


def _blur(plane: Plane, radius: float) -> Plane:
    image = Image.fromarray(np.round(plane * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def _step(distance: Plane, softness: float) -> Plane:
    """1 where the distance is positive, 0 where it is negative, smooth in between."""
    return np.clip(0.5 + distance / softness, 0, 1)


def _pattern(name: str, x: Plane, y: Plane, generator: np.random.Generator, softness: float) -> Plane:
    """How much of the second colour every pixel takes, 0 to 1."""
    if name == "plain":
        return np.zeros_like(x)
    tempo = generator.uniform(0.85, 1.25)
    along, across = (x, y) if generator.random() < 0.6 else (y, x)
    if name == "stripes":
        width = generator.uniform(0.32, 0.42)
        return _step(width / 2 - np.abs((across * 4.2 * tempo) % 1 - 0.5), softness * 4.2)
    if name == "zigzag":
        wave = 0.5 * np.abs((along * 3.2 * tempo) % 1 - 0.5)
        return _step(0.17 - np.abs((across * 3.6 * tempo + wave * 2) % 1 - 0.5), softness * 5)
    if name == "checks":
        one = _step(0.25 - np.abs((x * 3.4 * tempo) % 1 - 0.5), softness * 3.4)
        other = _step(0.25 - np.abs((y * 3.4 * tempo) % 1 - 0.5), softness * 3.4)
        return 0.5 * (one + other) * 0.85
    row = np.floor(y * 3.6 * tempo)
    cell_x = (x * 3.6 * tempo + 0.5 * (row % 2)) % 1 - 0.5
    cell_y = (y * 3.6 * tempo) % 1 - 0.5
    distance = np.hypot(cell_x, cell_y)
    if name == "dots":
        return _step(generator.uniform(0.24, 0.3) - distance, softness * 3.6)
    if name == "floral":
        column = np.floor(x * 3.6 * tempo + 0.5 * (row % 2))
        turn = 2.4 * column + 1.7 * row
        petals = 0.3 + 0.13 * np.cos(5 * (np.arctan2(cell_y, cell_x) + turn))
        return _step(petals - distance, softness * 3.6) * _step(distance - 0.11, softness * 3.6)
    raise ValueError(f"No pattern is called {name!r}.")


def _second_colour(colour: Colour) -> Colour:
    """What a pattern is printed in: cream on dark cloth, a darker shade on light cloth."""
    red, green, blue = colour.ravel().tolist()
    if 0.299 * red + 0.587 * green + 0.114 * blue > 0.62:
        return colour * 0.45
    return 0.25 * colour + 0.75 * _colour(0.98, 0.95, 0.88)


def _folds(x: Plane, y: Plane, generator: np.random.Generator) -> Plane:
    """Soft folds of cloth: a few slanting waves that bend into each other, about -1 to 1."""
    folds = np.zeros_like(x)
    for frequency in (2.1, 3.7, 6.1):
        slant, phase, bend = generator.uniform(-0.5, 0.5), generator.uniform(0, 6.28), generator.uniform(0.3, 0.9)
        folds += np.sin(frequency * (x + slant * y + 0.25 * np.sin(2.2 * y + phase)) * 2 + phase + bend * y) / frequency
    return folds


def _colour(red: float, green: float, blue: float) -> Colour:
    return np.array([red, green, blue], dtype=np.float32)[:, None, None]


def _tint(generator: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A random colour with saturation and value in the given ranges."""
    red, green, blue = colorsys.hsv_to_rgb(
        generator.uniform(), generator.uniform(*saturation), generator.uniform(*value)
    )
    return _colour(red, green, blue)


def _over(below: Paint, above: Paint, coverage: Plane) -> Picture:
    return below + (above - below) * coverage


def _shadow(plane: Plane, softness: float, right: float, down: float) -> Plane:
    """What falls on the wall: the silhouette, moved and blurred; all three in pixels."""
    image = Image.fromarray(np.round(plane * 255).astype(np.uint8))
    moved = image.transform(image.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))
    return _blur(np.asarray(moved, dtype=np.float32) / 255, softness)


def _background(size: int, generator: np.random.Generator) -> Picture:
    """A wall, a wall with a floor, or boards, in a pale tint with soft light."""
    x, y = np.meshgrid(_pixel_centres(size), _pixel_centres(size))
    picture = np.broadcast_to(_tint(generator, (0.02, 0.17), (0.8, 0.96)), (3, size, size))
    setting = generator.choice(["wall", "floor", "boards"], p=[0.5, 0.3, 0.2])
    if setting == "floor":
        horizon = generator.uniform(0.35, 0.7)
        picture = _over(picture, _tint(generator, (0.08, 0.3), (0.62, 0.85)), _step(y - horizon, 3 / size))
    elif setting == "boards":
        wood = _colour(0.86, 0.77, 0.66) * generator.uniform(0.85, 1.08)
        boards = generator.uniform(3, 5)
        tone = 0.03 * np.sin(7 * np.floor((x + 1) * boards / 2) + generator.uniform(0, 6)) + 0.012 * np.sin(
            40 * x + 3 * y
        )
        gap = _step(np.abs((x + 1) * boards / 2 % 1 - 0.5) - 0.488, 4 / size)
        picture = np.clip(wood + tone, 0, 1) * (1 - 0.25 * gap)
    angle = generator.uniform(0, 6.28)
    light = 1 + 0.07 * (math.cos(angle) * x + math.sin(angle) * y) - 0.06 * (x**2 + y**2)
    return picture * light


def _clutter(picture: Picture, generator: np.random.Generator) -> Picture:
    """Put one to three objects near the edge: a cup, a plant, books, a ball, a frame."""
    size = picture.shape[-1]
    for _ in range(int(generator.integers(1, 4))):
        around = generator.uniform(0, 6.28)
        middle = (
            0.85 * max(-1.0, min(1.0, 1.3 * math.cos(around))),
            0.85 * max(-1.0, min(1.0, 1.3 * math.sin(around))),
        )
        scale = generator.uniform(0.17, 0.3)
        stencil = _Stencil(size, Pose((scale, scale), generator.uniform(-0.3, 0.3), middle))
        colour, other = _tint(generator, (0.2, 0.75), (0.4, 0.9)), _tint(generator, (0.1, 0.5), (0.6, 0.95))
        box = vertices((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
        parts: list[tuple[Plane, Colour]]
        match str(generator.choice(["cup", "plant", "books", "ball", "frame"])):
            case "cup":
                mug = rounded(vertices((-0.6, -0.6), (0.5, -0.6), (0.42, 0.7), (-0.52, 0.7)), 0.15)
                handle = ((ellipse(0.56, 0.0, 0.34, 0.34), 0.16),)
                parts = [
                    (stencil.cover((mug,), straps=handle), colour),
                    (stencil.cover((ellipse(-0.05, -0.58, 0.53, 0.16),)), other * 0.5),
                ]
            case "plant":
                pot = vertices((-0.45, 0.2), (0.45, 0.2), (0.34, 0.95), (-0.34, 0.95))
                leaf = rounded(vertices((0, 0.3), (-0.2, -0.4), (0, -1.0), (0.2, -0.4)), 0.3)
                turns = [
                    np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (-0.9, -0.45, 0, 0.45, 0.9)
                ]
                leaves = tuple((leaf - (0, 0.3)) @ turn + (0, 0.3) for turn in turns)
                parts = [
                    (stencil.cover(leaves), _colour(0.28, 0.5, 0.3) * generator.uniform(0.8, 1.2)),
                    (stencil.cover((pot,)), colour),
                ]
            case "books":
                parts = [
                    (stencil.cover((box * (1.1, 0.3) + (0, 0.5),)), colour),
                    (stencil.cover((box * (0.95, 0.25) + (0.08, 0.06),)), other),
                    (stencil.cover((box * (1.0, 0.25) + (-0.06, -0.34),)), colour[::-1]),
                ]
            case "ball":
                parts = [
                    (stencil.cover((ellipse(0, 0, 0.7, 0.7),)), colour),
                    (stencil.cover((ellipse(-0.2, -0.24, 0.26, 0.22),)), 0.5 + 0.5 * colour),
                ]
            case _:
                parts = [(stencil.cover((box,)), colour), (stencil.cover((box * 0.78,)), other)]
        silhouette = np.max([coverage for coverage, _ in parts], axis=0)
        picture = picture * (1 - 0.25 * _shadow(silhouette, size * 0.02, size * 0.012, size * 0.016))
        for coverage, paint in parts:
            picture = _over(picture, paint, coverage)
    return picture


def draw_garment(
    kind: str, colour: str, pattern: str, size: int, clutter: float, generator: np.random.Generator
) -> tuple[Image.Image, Plane]:
    """Draw one product photograph.

    Args:
        kind: A key of `SHAPES`.
        colour: A key of `COLOURS`.
        pattern: "plain", "stripes", "dots", "checks", "floral" or "zigzag".
        size: Pixels along each edge.
        clutter: Chance of objects in the background.
        generator: Source of cut, pose, light and background.

    Returns:
        The picture (RGB), and how much of each pixel the garment covers (0 to 1).
    """
    shape = SHAPES[kind][int(generator.integers(len(SHAPES[kind])))]()
    scale = generator.uniform(0.66, 0.86)
    pose = Pose(
        scale=(scale * generator.uniform(0.9, 1.08), scale * generator.uniform(0.94, 1.06)),
        angle=float(np.clip(generator.normal(0, 0.09), -0.25, 0.25)),
        shift=(generator.uniform(-0.09, 0.09), generator.uniform(-0.07, 0.07)),
    )
    stencil = _Stencil(size, pose)
    x, y = pose.garment_coordinates(size)

    body = stencil.cover(tuple(rounded(outline, shape.rounding) for outline in shape.body), straps=shape.straps)
    trims = stencil.cover(tuple(rounded(outline, 0.03) for outline in shape.trims))
    inside = stencil.cover(shape.inside) * body * (1 - trims)
    seams = stencil.cover(lines=shape.seams) * body * (1 - inside)
    garment = np.maximum(body, trims)

    red, green, blue = COLOURS[colour]
    base = _colour(red / 255, green / 255, blue / 255)
    cloth = _over(base, _second_colour(base), _pattern(pattern, x, y, generator, 2 / (size * scale)))
    # Trims keep the garment's colour, a little darker, or lighter where that would not show.
    cloth = _over(cloth, base * 0.72 if base.max() > 0.4 else 0.75 * base + 0.25, trims)
    cloth = _over(cloth, base * 0.45, inside)
    cloth = _over(cloth, cloth * 0.55 if base.max() > 0.2 else cloth * 0.3 + 0.22, seams * 0.8)
    edge = stencil.cover(lines=tuple(rounded(outline, 0.03) for outline in shape.trims)) * trims
    cloth = cloth * (1 - 0.35 * edge)

    # Volume: the blurred silhouette is a height; its slope towards the light brightens, its rim darkens.
    height = _blur(garment, size * 0.022)
    slope_y, slope_x = np.gradient(height)
    sideways = generator.uniform(-0.7, 0.7)  # light from above, from the left where positive
    relief = size * 0.03 * (sideways * slope_x + math.sqrt(1 - sideways**2) * slope_y)
    light = generator.uniform(0.93, 1.06) * (0.82 + 0.18 * height + 0.3 * relief + 0.07 * _folds(x, y, generator))
    # Cloth as dark as black shows its folds by what it reflects.
    cloth = cloth * light + 0.05 * np.clip(light - 0.92, 0, 1)

    picture = _background(size, generator)
    if generator.random() < clutter:
        picture = _clutter(picture, generator)
    drop = size * generator.uniform(0.015, 0.035)
    shadow = _shadow(garment, size * generator.uniform(0.015, 0.04), sideways * drop, drop)
    picture = picture * (1 - generator.uniform(0.3, 0.5) * shadow)
    picture = np.clip(_over(picture, cloth, garment), 0, 1)
    return Image.fromarray(np.round(picture * 255).astype(np.uint8).transpose(1, 2, 0)), garment
