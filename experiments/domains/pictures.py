"""Procedural pictures other than faces: abstract paintings, textures, line drawings (Fig. 11c and S9 use artworks).

Coordinates run over [0, 1], x to the right and y downwards. A seed determines a whole picture: it does not depend on
its batch, and it is about the same at every size.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from PIL import Image, ImageDraw
from torch import Tensor

from injectfusion.core.errors import UserError, unknown

VERSION = 1  # raised whenever a seed gives another picture
_OVERSAMPLING = 3
_GRID = 64  # points per side of the fields of a painting


def draw(kind: str, seeds: Sequence[int], size: int) -> Tensor:
    """Draw a picture for each seed.

    Args:
        kind: one of `KINDS`.
        seeds: 0 or more.
        size: height and width in pixels.
    Returns:
        (len(seeds), 3, size, size) uint8 RGB.
    Raises:
        UserError: unknown kind.
    """
    if kind not in KINDS:
        raise UserError(unknown("kind of picture", kind, list(KINDS)))
    pictures = torch.empty(len(seeds), 3, size, size, dtype=torch.uint8)
    for picture, seed in zip(pictures, seeds, strict=True):
        rng = np.random.Generator(np.random.Philox(key=[seed, list(KINDS).index(kind)]))
        large = KINDS[kind](rng, size * _OVERSAMPLING).clip(0, 1)
        pixels = large.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING, 3).mean(axis=(1, 3))
        picture[:] = torch.from_numpy((pixels * 255).round()).permute(2, 0, 1)
    return pictures


def _palette(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 3) colors in [0, 1] from dark to light: neighboring hues, and one opposite hue."""
    hue = rng.random() + rng.uniform(0.04, 0.2) * np.linspace(-1, 1, n)
    hue[rng.integers(n)] += 0.5
    return hsv_to_rgb(np.stack([hue % 1, rng.uniform(0.2, 0.8, n), np.linspace(0.2, 0.97, n)], axis=1))


def _gradient(colors: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Colors (n, 3) at positions (...) in [0, 1] along them: (..., 3)."""
    stops = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(position, stops, channel) for channel in colors.T], axis=-1)


def _smooth(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """(size, size) smooth noise of standard deviation 1, on a length scale of about 1/cells."""
    noise = _enlarged(rng.standard_normal((cells + 1, cells + 1)), size)
    return (noise - noise.mean()) / noise.std()


def _enlarged(field: np.ndarray, size: int) -> np.ndarray:
    """A field (n, n), smoothly interpolated to (size, size)."""
    image = Image.fromarray(field.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, size) and y (size, 1)."""
    centers = (np.arange(size) + 0.5) / size
    return centers[None, :], centers[:, None]


def _painting(rng: np.random.Generator, size: int) -> np.ndarray:
    """Increasingly fine brush strokes over a plain color, which follow a flow with swirls: (size, size, 3)."""
    colors = _palette(rng, 7)
    x, y = _axes(_GRID)
    angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.3, 1.1) * _smooth(rng, 3, _GRID)
    flow = np.stack([np.cos(angle), np.sin(angle)])
    for _ in range(rng.integers(1, 4)):
        dx, dy = x - rng.random(), y - rng.random()
        radius = np.hypot(dx, dy) + 1e-6
        strength = rng.choice([-4, 4]) * np.exp(-((radius / rng.uniform(0.12, 0.3)) ** 2))
        flow += strength * np.stack([-dy / radius, dx / radius])
    flow /= np.hypot(*flow)
    field = _smooth(rng, int(rng.integers(2, 5)), _GRID) + 0.35 * _smooth(rng, 8, _GRID)
    field = (field - field.min()) / np.ptp(field)

    canvas = Image.new("RGB", (size, size), _rgb(colors[len(colors) // 2]))
    brush = ImageDraw.Draw(canvas)
    scale = rng.uniform(0.8, 1.3)
    for width, strokes in ((0.15, 60), (0.08, 150), (0.045, 160)):
        width *= scale
        points = _follow(flow, rng.uniform(-0.1, 1.1, (strokes, 2)), step=width, steps=5)  # (strokes, 6, 2)
        start = _cell(points[:, 0])
        tone = np.rint(field[start] * (len(colors) - 1) + rng.normal(0, 0.45, strokes)).astype(int)
        color = colors[tone.clip(0, len(colors) - 1)] * rng.normal(1, 0.06, (strokes, 1))
        across = flow[:, start[0], start[1]].T[:, None, ::-1] * (1, -1)  # (strokes, 1, 2)
        for bristle in (-1, 0, 1):
            lines = (points + bristle * width / 3 * across + rng.normal(0, width / 8, (strokes, 1, 2))) * size
            shades = color * rng.normal(1, 0.09, (strokes, 1))
            for line, shade in zip(lines, shades, strict=True):
                brush.line(line.ravel().tolist(), _rgb(shade), width=max(1, round(0.4 * width * size)))
    return np.asarray(canvas) / 255


def _follow(flow: np.ndarray, points: np.ndarray, step: float, steps: int) -> np.ndarray:
    """Paths (N, steps + 1, 2) along a flow (2, _GRID, _GRID) from points (N, 2)."""
    path = [points]
    for _ in range(steps):
        row, column = _cell(path[-1])
        path.append(path[-1] + step * flow[:, row, column].T)
    return np.stack(path, axis=1)


def _cell(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column on the grid of points (N, 2); the nearest one for points outside."""
    column, row = (points * _GRID).astype(int).clip(0, _GRID - 1).T
    return row, column


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    return (_bands, _weave, _marble)[rng.integers(3)](rng, size)


def _bands(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise of about one wavelength, stretched in one direction: (size, size, 3)."""
    side = 2 * _GRID  # independent of `size`, so that the spectrum is the same for every size
    fx, fy = np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.fftfreq(side, 1 / side))
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 3)
    along, across = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
    octaves = np.log2(np.hypot(along * stretch, across) / rng.uniform(6, 14) + 1e-9)
    band = np.exp(-((octaves / rng.uniform(0.2, 0.6)) ** 2))
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * band).real
    large = _enlarged(noise, size)
    return _gradient(_palette(rng, 4), 0.5 + 0.25 * large / large.std())


def _weave(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloth: threads that go over and under one another, in plain or twill weave, striped or not: (size, size, 3)."""
    threads, over = int(rng.integers(7, 14)), int(rng.integers(1, 3))
    colors = _palette(rng, 6)[2:]  # a dark thread would look like a hole
    x, y = (threads * axis for axis in _axes(size))
    column, row = x.astype(int), y.astype(int)
    warp_above = (column + row) % (2 * over) < over
    stripes = rng.integers(0, 4, (2, threads)) if rng.random() < 0.5 else np.array([[0], [3]]).repeat(threads, axis=1)
    color = np.where(warp_above[..., None], colors[stripes[0][column]], colors[stripes[1][row]])
    # A thread has a round profile, and is darker where it goes under the next one.
    across, along = np.where(warp_above, x % 1, y % 1), np.where(warp_above, y % 1, x % 1)
    return color * (0.35 + 0.7 * np.sin(np.pi * across) ** 0.5 * np.sin(np.pi * along) ** 0.3)[..., None]


def _marble(rng: np.random.Generator, size: int) -> np.ndarray:
    """Waves of color, bent by turbulence: (size, size, 3)."""
    x, y = _axes(size)
    angle = rng.uniform(0, np.pi)
    turbulence = sum(_smooth(rng, 2 * 2**octave, size) / 2**octave for octave in range(5))
    phase = rng.uniform(1, 3) * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0.15, 0.35) * turbulence
    return _gradient(_palette(rng, 5), np.abs(np.sin(np.pi * phase)) ** rng.uniform(0.3, 0.8))


def _drawing(rng: np.random.Generator, size: int) -> np.ndarray:
    """A few objects in ink on paper, some of them filled with a color: (size, size, 3)."""
    paper = hsv_to_rgb([rng.uniform(0.06, 0.16), rng.uniform(0.0, 0.14), rng.uniform(0.9, 1.0)])
    canvas = Image.new("RGB", (size, size), _rgb(paper))
    pen = ImageDraw.Draw(canvas)
    colored = rng.random() < 0.5
    width = max(1, round(rng.uniform(0.012, 0.024) * size))
    places = rng.permutation(9)[: rng.integers(3, 6)]
    for place in places:
        lines = _THINGS[rng.integers(len(_THINGS))](rng)
        middle = (np.array([place % 3, place // 3]) + 0.5) / 3 + rng.uniform(-0.08, 0.08, 2)
        tilt, scale = rng.normal(0, 0.2), rng.uniform(0.16, 0.28)
        turn = scale * np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        hue = hsv_to_rgb([rng.random(), rng.uniform(0.6, 0.9), rng.uniform(0.4, 0.8)])
        ink = hue if colored and rng.random() < 0.7 else np.full(3, rng.uniform(0.02, 0.2))
        drawn = [((line @ turn + middle) * size).ravel().tolist() for line in lines]
        if rng.random() < 0.35:
            pen.polygon(drawn[0], fill=_rgb(0.6 * paper + 0.4 * hue))
        for line in drawn:
            pen.line(line, _rgb(ink), width=width, joint="curve")
    return np.asarray(canvas) / 255


def _arc(start: float, stop: float, points: int = 40) -> np.ndarray:
    """(points, 2) on the circle of radius 1; angles in turns, clockwise from the right."""
    angle = 2 * np.pi * np.linspace(start, stop, points)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


# Objects to draw, as lines (points, 2) in about [-1, 1]; the first line may be filled.


def _pebble(rng: np.random.Generator) -> list[np.ndarray]:
    """A smooth closed shape, hatched below."""
    turns = np.linspace(0, 1, 40)
    radius = np.full(40, 0.85)
    for k in (2, 3, 4):
        radius += rng.normal(0, 0.3 / k) * np.cos(2 * np.pi * (k * turns + rng.random()))
    hatching = [np.array([[t - 0.35, 0.55], [t + 0.05, 0.05]]) for t in np.linspace(-0.3, 0.6, 5)]
    return [_arc(0, 1) * radius[:, None], *hatching]


def _snail(rng: np.random.Generator) -> list[np.ndarray]:
    turns = rng.uniform(2, 4)
    return [_arc(0, turns, 80) * np.linspace(0.05, 1, 80)[:, None]]


def _plant(rng: np.random.Generator) -> list[np.ndarray]:
    """A stem with leaves on both sides."""
    t = np.linspace(0, 1, 12)
    bend = rng.uniform(-0.4, 0.4)
    stem = np.stack([bend * t**2, 1 - 2 * t], axis=1)
    leaf = np.concatenate([np.stack([t, s * 0.18 * np.sin(np.pi * t)], axis=1)[::s] for s in (1, -1)])
    leaves = []
    for i, point in enumerate(stem[2::2]):
        side = 1 if i % 2 else -1
        leaves.append(leaf @ np.array([[side * 0.6, -0.45], [0.45 * side, 0.6]]) * rng.uniform(0.8, 1.1) + point)
    return [*leaves, stem]


def _mountains(rng: np.random.Generator) -> list[np.ndarray]:
    """A ridge with snow."""
    left, top, right = rng.uniform(-0.5, -0.2), rng.uniform(-1, -0.6), rng.uniform(0.3, 0.6)
    ridge = [[-1.2, 0.6], [left, top], [(left + right) / 2, 0.1], [right, rng.uniform(-0.6, -0.2)], [1.2, 0.6]]
    snow = [[left - 0.25, top + 0.45], [left - 0.05, top + 0.3], [left + 0.05, top + 0.5], [left + 0.2, top + 0.4]]
    return [np.array([*ridge, ridge[0]]), np.array(snow)]


def _sun(rng: np.random.Generator) -> list[np.ndarray]:
    rays = _arc(0, 1, int(rng.integers(9, 14)))[1:]
    return [0.5 * _arc(0, 1), *(np.stack([0.68 * ray, ray]) for ray in rays)]


def _box(rng: np.random.Generator) -> list[np.ndarray]:
    """A box in parallel projection."""
    face = np.array([[-0.8, -0.4], [0.4, -0.4], [0.4, 0.8], [-0.8, 0.8], [-0.8, -0.4]])
    behind = face + np.array([rng.uniform(0.3, 0.6), rng.uniform(-0.6, -0.3)])
    return [face, behind[[0, 1, 2]], *(np.stack([face[i], behind[i]]) for i in range(3))]


def _house(rng: np.random.Generator) -> list[np.ndarray]:
    eaves = rng.uniform(-0.3, 0.0)
    walls = np.array([[-0.7, 0.9], [-0.7, eaves], [0, -0.9], [0.7, eaves], [0.7, 0.9], [-0.7, 0.9]])
    door = np.array([[-0.2, 0.9], [-0.2, 0.35], [0.2, 0.35], [0.2, 0.9]])
    return [walls, np.array([[-0.7, eaves], [0.7, eaves]]), door]


def _waves(rng: np.random.Generator) -> list[np.ndarray]:
    """A patch of water with waves."""
    x = np.linspace(-1, 1, 40)
    wave = np.stack([x, 0.15 * np.sin(rng.uniform(4, 8) * x + rng.uniform(0, 6))], axis=1)
    first, *inner, last = (wave + np.array([0, y]) for y in (-0.6, -0.2, 0.2, 0.6))
    return [np.concatenate([first, last[::-1], first[:1]]), *inner]


_THINGS = (_pebble, _snail, _plant, _mountains, _sun, _box, _house, _waves)


def _rgb(color: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (255 * color).round().clip(0, 255).astype(int).tolist()
    return red, green, blue


# Each draws (size, size, 3) float64, approximately in [0, 1], from a generator. Their order is part of the seeds.
KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "paintings": _painting,
    "textures": _texture,
    "drawings": _drawing,
}
