"""Reading images from folders, and all errors."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from injectfusion.core.errors import UserError
from injectfusion.core.files import write_text
from injectfusion.core.images import list_images, load_images, open_image, read_image, read_intact, save_image


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


@pytest.mark.parametrize("name", ["b.heic", "b.HEIF", "b.avif", "b.tif", "b.TIFF", "b.bmp", "b.gif", "b.jp2", "b.jfif"])
def test_images_of_other_formats_are_not_passed_over(tmp_path: Path, name: str) -> None:
    picture().save(tmp_path / "a.png")
    for other in (name, f"c{name}"):
        (tmp_path / other).write_bytes(b"")
    with pytest.raises(UserError, match=rf"formats that are not read \(2, such as {name}\): convert them to"):
        list_images(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="has files of image formats that are not read"):
        list_images(tmp_path)


def test_files_that_are_no_images_are_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture().save(tmp_path / "a.png")
    for name in ("README.md", "labels.json", "Thumbs.db", ".DS_Store", "._a.png", "._b.heic", "noending", "a.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".cache").mkdir()
    picture().save(tmp_path / ".cache/a.png")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("")
    assert list_images(tmp_path) == [tmp_path / "a.png"]
    assert caplog.messages == []


def test_sub_folders_with_images_are_noted_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b", "a", "c", "d"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "1.png")
    with pytest.raises(UserError, match=r"no images in .*; its sub-folders a, b, c and 1 more have some: give one"):
        list_images(tmp_path)
    picture().save(tmp_path / "own.png")
    for _ in range(2):
        assert list_images(tmp_path) == [tmp_path / "own.png"]
    assert caplog.messages == [f"note: the images in sub-folders of {tmp_path} are not read: a, b, c and 1 more"]


def test_a_smaller_image_is_not_enlarged(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", size=8).shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"a\.png is 8x8, smaller than 9x9"):
        read_image(tmp_path / "a.png", size=9)


def test_many_pixels_are_read_without_a_warning_and_too_many_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns above it, and fails above twice as many
    picture(width=12, height=12).save(tmp_path / "a.png")
    picture(width=15, height=15).save(tmp_path / "b.png")
    assert read_image(tmp_path / "a.png").shape == (3, 12, 12)
    with pytest.raises(UserError, match=r"b\.png has more than 179 million pixels: make it smaller first"):
        read_image(tmp_path / "b.png")
    assert list(recwarn) == []


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "PNG"])
def test_the_suffix_determines_the_format(tmp_path: Path, suffix: str) -> None:
    image = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    save_image(tmp_path / f"a.{suffix}", image)
    assert (read_image(tmp_path / f"a.{suffix}").int() - 100).abs().max() <= 1


def test_a_damaged_image_is_not_read_as_another_one(tmp_path: Path) -> None:
    path, image = tmp_path / "a.png", torch.from_numpy(np.array(picture(width=16, height=16))).permute(2, 0, 1)
    save_image(path, image)
    whole, intact = path.read_bytes(), 0
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = read_intact(path)
        assert found is None or torch.equal(found, image)
        intact += found is not None
    assert intact <= 20  # the last bytes are two checksums and the mark of the end
    path.unlink()
    assert read_intact(path) is None


def test_a_name_that_is_not_utf_8_is_read_and_written(tmp_path: Path) -> None:
    picture().save(tmp_path / "a\udcff.png")
    (path,) = list_images(tmp_path)
    assert read_image(path).shape == (3, 8, 8)
    write_text(tmp_path / "names.txt", path.name)
    with pytest.raises(UserError, match="cannot read the image"):
        read_image(path.with_stem("b\udcff"))


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


def test_a_large_image_is_reduced_as_it_is_read(tmp_path: Path) -> None:
    large = picture(width=100, height=70)
    large.save(tmp_path / "a.png")
    means = np.array(large).astype(float)[:69, :99].reshape(23, 3, 33, 3, 3).mean((1, 3))
    found = np.array(open_image(tmp_path / "a.png", enough=20))
    assert found.shape == (24, 34, 3)  # the last row and column are means of what is left
    assert np.abs(found[:23, :33] - means).max() < 0.6
    assert open_image(tmp_path / "a.png", enough=36).size == (100, 70)

    Image.new("RGB", (640, 480), (10, 200, 30)).save(tmp_path / "a.jpg")
    small = open_image(tmp_path / "a.jpg", enough=30)
    assert small.size == (40, 30)
    assert np.abs(np.array(small).astype(int) - (10, 200, 30)).max() <= 2


def test_one_of_several_frames_is_not_taken_for_the_image(tmp_path: Path) -> None:
    frames = [picture(seed) for seed in range(3)]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(UserError, match=rf"{name} has 3 frames: save one of them"):
            read_image(tmp_path / name)
    frames[0].save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:]
    )  # a telephone's JPEG, with previews
    frames[0].save(tmp_path / "b.jpg")
    assert torch.equal(read_image(tmp_path / "a.jpg"), read_image(tmp_path / "b.jpg"))


@pytest.mark.parametrize("brand", ["heic", "mif1"])
def test_what_cannot_be_opened_says_why(tmp_path: Path, brand: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand.encode() + b"\0\0\0\0mif1heic")
    for name, reason in (("a.jpg", "HEIC is not supported"), ("", "Is a directory"), ("b.jpg", "No such file")):
        with pytest.raises(UserError, match=rf"^cannot read the image .*{name}: {reason}"):
            read_image(tmp_path / name)
