"""Draws faces with vectorized signed-distance functions.

Coordinates run over [-1, 1], x to the right and y downwards. A distance is negative inside a shape; `_cover` turns it
into antialiased coverage, so every shape is a soft layer and a face is a stack of layers, back to front.
"""

import torch
from torch import Tensor

from procfaces.attributes import Faces

SIZE = 64
_CHUNK = 50  # small enough that a layer of a chunk stays in the processor's cache


def render(faces: Faces, size: int = SIZE) -> Tensor:
    """Render faces to uint8 images.

    Returns:
        (B, 3, size, size) uint8 RGB.
    """
    out = torch.empty(len(faces), 3, size, size, dtype=torch.uint8)
    for start in range(0, len(faces), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        out[chunk] = (_draw(faces[chunk], size).clamp(0, 1) * 255).round().to(torch.uint8)
    return out


def hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV in [0, 1] (hue wraps) to RGB; (B,) each -> (B, 3, 1, 1)."""
    offset = torch.tensor([5.0, 3.0, 1.0])
    k = (offset + 6 * hue[:, None]) % 6
    wave = torch.minimum(torch.minimum(k, 4 - k), torch.ones(())).clamp(min=0)
    return (value[:, None] * (1 - saturation[:, None] * wave))[..., None, None]


def _over(image: Tensor, color: Tensor, alpha: Tensor) -> Tensor:
    return torch.lerp(image, color.expand_as(image), alpha.expand_as(image))


def _ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Distance to an axis-aligned ellipse around the origin, exact at its outline to first order."""
    fx, fy = x / rx, y / ry
    f = torch.sqrt(fx * fx + fy * fy + 1e-8)
    gradient = torch.sqrt((fx / rx) ** 2 + (fy / ry) ** 2 + 1e-8) / f
    return (f - 1) / gradient


def _rounded_box(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float, radius: Tensor) -> Tensor:
    qx, qy = x.abs() - rx + radius, y.abs() - ry + radius
    outside = torch.sqrt(qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2 + 1e-9)
    return outside + torch.maximum(qx, qy).clamp(max=0) - radius


def _draw(f: Faces, size: int) -> Tensor:
    """(B, 3, size, size) float32, approximately in [0, 1]."""
    grid = (torch.arange(size) + 0.5) / size * 2 - 1
    X, Y = grid[None, None, None, :], grid[None, None, :, None]
    pixel = 2 / size

    def cover(distance: Tensor, softness: float = 1.0) -> Tensor:
        return (0.5 - distance / (pixel * softness)).clamp(0, 1)

    c = f[:, None, None, None]

    # Colors. Skin and hair are continuous in lightness and hue; every image also has its own tint and light.
    skin_value = 0.30 + 0.66 * f.skin
    skin_rgb = hsv(0.040 + 0.045 * f.skin_hue, 0.62 - 0.34 * f.skin, skin_value)
    shade_rgb = hsv(0.02 + 0.04 * f.skin_hue, 0.72 - 0.30 * f.skin, skin_value * 0.70)
    hair_rgb = hsv(0.005 + 0.112 * f.hair_hue, 0.35 + 0.5 * f.hair_saturation, 0.10 + 0.84 * f.hair)
    hair_dark = hair_rgb * 0.68
    brow_rgb = 0.55 * hair_rgb + 0.16 * skin_rgb
    background = hsv(f.background_hue, 0.06 + 0.50 * f.background_saturation, 0.35 + 0.6 * f.background_value)
    background2 = hsv(
        f.background_hue + 0.22 * (f.background_shift - 0.5),
        0.04 + 0.42 * f.background_saturation,
        0.20 + 0.55 * f.background_value,
    )
    shirt = hsv(f.shirt_hue, torch.full_like(f.skin, 0.55), 0.25 + 0.65 * f.shirt_value)

    # Head coordinates: tilt rotates about the neck; turning the head shifts the features and narrows the far side.
    angle = 0.44 * (c.tilt - 0.5)
    cos, sin = torch.cos(angle), torch.sin(angle)
    hx = cos * X + sin * (Y - 0.55)
    hy = -sin * X + cos * (Y - 0.55) + 0.55
    turn = 2 * (c.turn - 0.5)
    shift = 0.12 * turn
    fx = hx - shift
    fx = fx / (1 - 0.14 * turn * torch.sign(fx))

    half_width = 0.42 + 0.10 * c.face_width
    chin = 0.53 + 0.16 * c.face_length
    jaw = c.jaw

    # Background with a soft glow behind the head.
    image = torch.lerp(background.expand(-1, -1, size, size), background2.expand(-1, -1, size, size), (Y + 1) / 2)
    glow = 0.16 * torch.exp(-((X**2 + (Y + 0.1) ** 2) / 0.9))
    image = image + glow

    # Back hair: a cap around the skull that falls to the shoulders with length.
    volume = 0.06 + 0.09 * c.hair_volume
    length = c.hair_length
    fall = -0.02 + 0.95 * length
    cap = _ellipse(hx - 0.3 * shift, hy + 0.10, half_width + volume, 0.60 + volume)
    curtain = _rounded_box(
        hx - 0.2 * shift,
        hy - (fall - 0.15) / 2,
        half_width + volume * (0.75 + 0.35 * length),
        (fall + 0.25).clamp(min=0.05) / 2 + 0.03,
        torch.full_like(length, 0.14),
    )
    back = torch.minimum(torch.where(hy < 0.05, cap, torch.full_like(cap, 9.0)), curtain)
    strands = 1 + 0.10 * torch.sin(26 * hx + 5 * torch.sin(4 * hy))
    image = _over(image, hair_dark * strands, cover(back))

    # Neck and shoulders.
    image = _over(
        image, shade_rgb, cover(_rounded_box(X - 0.02 * turn, Y - 0.75, 0.19 + 0.05 * jaw, 0.35, 0 * jaw + 0.1))
    )
    shoulders = _ellipse(X, Y - 1.18, 0.86, 0.40)
    collar = _ellipse(X, Y - 0.74, 0.26, 0.14)
    image = _over(image, shirt, cover(torch.maximum(shoulders, -collar)))

    # Ears, then the head: a superellipse whose lower half goes from pointed to square with the jaw.
    ear_r = 0.065 + 0.05 * c.ears
    for side in (-1.0, 1.0):
        ear = _ellipse(hx - side * (half_width - 0.01) + 0.35 * shift, hy - 0.05, ear_r, ear_r * 1.5)
        image = _over(image, shade_rgb, cover(ear))
    power = torch.where(hy < 0.05, torch.full_like(jaw, 2.1), 1.50 + 2.9 * jaw)
    height = torch.where(hy < 0.05, torch.full_like(jaw, 0.66), chin - 0.05)
    ax = (hx.abs() / half_width).clamp(min=1e-4)
    ay = ((hy - 0.05).abs() / height).clamp(min=1e-4)
    head = ((ax**power + ay**power) ** (1 / power) - 1) * half_width
    head_alpha = cover(head)
    lit = (c.light_x - 0.5) * 0.55 * hx + (c.light_y - 0.5) * 0.30 * hy
    rim = 0.20 * (1 + head / 0.22).clamp(0, 1) ** 2
    image = _over(image, skin_rgb * (1 + lit - rim), head_alpha)

    # Cheeks: a natural tone, strong under makeup.
    blush_rgb = torch.lerp(skin_rgb, hsv(0.97 + 0.05 * f.lip_hue, 0.55 + 0 * f.lip_hue, 0.45 + 0.5 * f.skin), 0.75)
    blush_strength = 0.10 + c.makeup * (0.35 + 0.25 * c.blush)
    cheeks = torch.exp(-(((fx.abs() - 0.27) / 0.12) ** 2) - ((hy - 0.24) / 0.10) ** 2)
    image = _over(image, blush_rgb, cheeks * blush_strength * head_alpha)

    # Eyes, mirrored by |fx|.
    spacing = 0.185 + 0.075 * c.eye_spacing
    eye_y = 0.02
    size_eye = c.eyes
    eye_w = 0.095 + 0.040 * size_eye
    eye_h = 0.032 + 0.075 * size_eye
    ex = fx.abs() - spacing
    ey = hy - eye_y + 0.28 * (c.eye_slant - 0.5) * ex
    shadow_rgb = hsv(0.52 + 0.42 * f.shadow_hue, 0.70 + 0 * f.skin, 0.30 + 0.5 * f.skin)
    lid = _ellipse(ex, ey + 0.045, eye_w + 0.045, eye_h + 0.050)
    image = _over(image, shadow_rgb, cover(lid, 2.0) * 0.80 * c.makeup)
    eye = _ellipse(ex, ey, eye_w, eye_h)
    lash = torch.maximum(_ellipse(ex, ey + 0.012, eye_w + 0.018, eye_h + 0.016), ey - 0.2 * eye_h)
    image = _over(image, shade_rgb * 0.30, cover(lash) * (0.70 + 0.30 * c.makeup))
    image = _over(image, torch.full_like(skin_rgb, 0.96), cover(eye))
    iris_rgb = hsv(0.06 + 0.56 * f.eye_hue, 0.60 + 0 * f.eye_hue, 0.28 + 0.45 * f.eye_value)
    gaze = fx.sign() * 0.03 * turn
    iris_r = 0.042 + 0.022 * size_eye
    iris = torch.maximum(_ellipse(ex - gaze, ey, iris_r, iris_r), eye)
    image = _over(image, iris_rgb, cover(iris))
    pupil = torch.maximum(_ellipse(ex - gaze, ey, iris_r * 0.52, iris_r * 0.52), eye)
    image = _over(image, torch.full_like(skin_rgb, 0.05), cover(pupil))
    spark = _ellipse(fx.sign() * (ex - gaze) + 0.018, ey + 0.018, 0.014, 0.014)
    image = _over(image, torch.ones_like(skin_rgb), cover(spark) * 0.9)

    # Brows: a thick segment, its inner end lowered or raised by the angle.
    brow_y = eye_y - eye_h - 0.085 - 0.05 * c.brow_height - 0.012 * c.smile
    slope = 0.70 * (c.brow_angle - 0.5)
    by = hy - brow_y + slope * ex * 0.9 + 1.4 * ex**2
    brow = torch.maximum(by.abs() - (0.013 + 0.028 * c.brow_thickness), ex.abs() - 0.125)
    image = _over(image, brow_rgb, cover(brow) * 0.95)

    # Nose: a shaded side, a tip that grows with `nose`, two nostrils.
    nose = c.nose
    tip_y = 0.17 + 0.09 * c.nose_length
    nose_w = 0.048 + 0.125 * nose
    nx = fx - 0.04 * turn
    along = ((hy - eye_y) / (tip_y - eye_y)).clamp(0, 1)
    ridge = torch.maximum(
        (nx + 0.03 * along).abs() - (0.014 + 0.45 * nose_w * along**2), torch.maximum(eye_y + 0.02 - hy, hy - tip_y)
    )
    image = _over(image, shade_rgb, cover(ridge, 2.0) * 0.38)
    tip = _ellipse(nx, hy - tip_y, nose_w, 0.040 + 0.044 * nose)
    image = _over(image, torch.lerp(skin_rgb, shade_rgb, 0.9), cover(tip, 1.3))
    bulb = _ellipse(nx, hy - tip_y + 0.016 + 0.012 * nose, nose_w * 0.74, 0.030 + 0.036 * nose)
    image = _over(image, skin_rgb * 1.06, cover(bulb, 1.8) * 0.85)
    nostril = _ellipse(
        nx.abs() - nose_w * 0.50, hy - tip_y - 0.020 - 0.012 * nose, 0.014 + 0.016 * nose, 0.013 + 0.007 * nose
    )
    image = _over(image, shade_rgb * 0.42, cover(nostril, 1.3) * 0.9)

    # Mouth: a band bent by the smile; a broad smile opens and shows teeth.
    smile = 2 * (c.smile - 0.5)
    opening = (smile - 0.25).clamp(min=0)
    mouth_w = 0.115 + 0.065 * c.mouth_width + 0.045 * opening
    mouth_y = (tip_y + chin) / 2 + 0.012
    u = (fx / mouth_w).clamp(-1.25, 1.25)
    bend = mouth_y + smile * 0.070 * (0.45 - u**2)
    taper = (1 - u**2).clamp(min=0)
    lips = 0.024 + 0.034 * c.lip_fullness + 0.008 * c.makeup
    gap = 0.085 * opening * taper
    my = hy - bend - 0.25 * gap
    natural_lips = torch.lerp(skin_rgb, hsv(0.98 + 0 * f.skin, 0.55 + 0 * f.skin, 0.30 + 0.42 * f.skin), 0.55)
    lipstick = hsv(0.86 + 0.16 * f.lip_hue, 0.85 + 0 * f.skin, 0.45 + 0.42 * f.skin)
    lip_rgb = torch.lerp(natural_lips, lipstick, c.makeup)
    ends = fx.abs() - mouth_w
    outer = torch.maximum(my.abs() - (lips * taper.sqrt() + gap / 2 + 0.006), ends)
    image = _over(image, lip_rgb, cover(outer, 1.2))
    inner = torch.maximum(my.abs() - gap / 2, ends)
    image = _over(image, torch.full_like(skin_rgb, 0.95), cover(inner) * (opening > 0.02))
    line = torch.maximum(my.abs() - 0.009, ends)
    image = _over(image, shade_rgb * 0.45, cover(line, 1.3) * 0.85 * (opening <= 0.02))

    # Front hair: what lies above a hairline; bangs bring the hairline down to the brows.
    parting = 0.5 * (c.parting - 0.5)
    sweep = 0.55 * (hx - parting).abs() ** 1.3
    bangs = c.bangs
    fringe = 0.018 * torch.sin(24 * hx + 9 * c.parting)
    hairline = (1 - bangs) * (-0.42 + sweep * 1.5) + bangs * (-0.175 + 0.10 * sweep + fringe)
    skull = _ellipse(hx - 0.3 * shift, hy + 0.10, half_width + volume, 0.60 + volume)
    front = torch.maximum(skull, hy - hairline)
    shine = (
        1 + 0.13 * torch.sin(30 * (hx - parting) + 3 * hy) + 0.5 * lit + 0.18 * torch.exp(-(((hy + 0.50) / 0.10) ** 2))
    )
    image = _over(image, hair_rgb * shine, cover(front))

    # Glasses: round to square rims, a bridge and temples.
    glasses = c.glasses
    rim_r = 0.150 + 0.02 * size_eye
    gx = fx.abs() - spacing - 0.004
    box = _rounded_box(
        gx,
        hy - eye_y - 0.01,
        rim_r,
        rim_r * (1.0 - 0.22 * c.glasses_shape),
        rim_r * (0.95 - 0.62 * c.glasses_shape),
    )
    frame_rgb = hsv(0.05 + 0.6 * f.frame_tone, 0.5 + 0 * f.frame_tone, 0.05 + 0.15 * f.frame_tone)
    image = _over(image, torch.full_like(skin_rgb, 0.92), cover(box) * 0.16 * glasses)
    bars = torch.maximum((hy - eye_y + 0.035).abs() - 0.017, torch.maximum(box * -1, hx.abs() - half_width))
    frame = torch.minimum(box.abs() - 0.020, bars)
    image = _over(image, frame_rgb, cover(frame) * glasses)

    tint = torch.stack([f.tint_red, f.tint_green, f.tint_blue], dim=1)[..., None, None]
    exposure = 1 + 0.10 * (c.light_y - 0.5)
    return image * exposure * (0.90 + 0.20 * tint)
