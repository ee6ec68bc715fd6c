"""Reading images from folders, and all errors."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from injectfusion.core.errors import UserError
from injectfusion.core.images import list_images, load_images


def picture(seed: int = 0, width: int = 8, height: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def rgb_of_16_bits() -> bytes:
    """A PNG of one pixel, which Pillow cannot write, and reads as 8 bits."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header, pixel = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), zlib.compress(bytes([0, 1, 2, 3, 4, 5, 6]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def test_reads_in_order_and_exactly(tmp_path: Path) -> None:
    for name in ("b.png", "a.webp", "c.PNG"):
        picture(ord(name[0])).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    paths = list_images(tmp_path)
    assert [path.name for path in paths] == ["a.webp", "b.png", "c.PNG"]
    images = load_images(paths)
    assert images.dtype == torch.uint8
    assert images.shape == (3, 3, 8, 8)
    for image, name in zip(images, "abc", strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(picture(ord(name))))


def test_gray_palette_and_opaque_alpha_become_rgb(tmp_path: Path) -> None:
    gray = picture().convert("L")
    gray.save(tmp_path / "gray.png")
    picture().quantize(16).save(tmp_path / "palette.png")
    picture().convert("RGBA").save(tmp_path / "opaque.png")
    images = dict(zip(["gray", "opaque", "palette"], load_images(list_images(tmp_path)), strict=True))
    assert torch.equal(images["gray"][0], torch.from_numpy(np.array(gray)))
    assert torch.equal(images["gray"][0], images["gray"][2])
    assert np.array_equal(images["opaque"].permute(1, 2, 0).numpy(), np.array(picture()))


def test_exif_orientation_is_honored(tmp_path: Path) -> None:
    image = picture(width=6, height=4)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    upright = load_images(list_images(tmp_path))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(upright, np.rot90(np.array(image), k=-1))


def test_resizing_keeps_a_flat_color(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (10, 200, 30)).save(tmp_path / "a.png")
    image = load_images(list_images(tmp_path), size=8)
    assert image.shape == (1, 3, 8, 8)
    assert image[0, :, 3, 3].tolist() == [10, 200, 30]
    assert torch.equal(image[0], image[0, :, :1, :1].expand(3, 8, 8))


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder: .*nowhere"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no images in"):
        list_images(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not a folder"):
        list_images(tmp_path / "file")
    picture().save(tmp_path / "a.png")
    picture().save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg and a\.png"):
        list_images(tmp_path)


@pytest.mark.parametrize("kind", ["truncated", "text", "empty"])
def test_a_broken_file_is_named(tmp_path: Path, kind: str) -> None:
    picture(width=64, height=64).save(tmp_path / "a.png")
    picture(width=64, height=64).save(tmp_path / "b.png")
    content = {"truncated": (tmp_path / "b.png").read_bytes()[:2000], "text": b"hello", "empty": b""}[kind]
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the image .*b\.png"):
        load_images(list_images(tmp_path))


def test_mixed_sizes_name_the_odd_one(tmp_path: Path) -> None:
    for name, width in (("a", 8), ("b", 8), ("c", 10)):
        picture(width=width).save(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match=r"mixed sizes: .*c\.png is 10x8, a\.png is 8x8"):
        load_images(list_images(tmp_path))


def test_what_cannot_become_rgb_is_refused(tmp_path: Path) -> None:
    transparent = picture().convert("RGBA")
    transparent.putpixel((0, 0), (0, 0, 0, 10))
    transparent.save(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "deep_rgb.png").write_bytes(rgb_of_16_bits())
    picture().convert("CMYK").save(tmp_path / "print.jpg")
    picture(width=10).save(tmp_path / "wide.png")
    for name, message in (
        ("a.png", "is partly transparent"),
        ("deep.png", "has more than 8 bits"),
        ("deep_rgb.png", "has more than 8 bits"),
        ("print.jpg", "is CMYK"),
        ("wide.png", "is 10x8: crop to a square"),
    ):
        with pytest.raises(UserError, match=f"{name} {message}"):
            load_images([tmp_path / name], size=8)
