"""Images that are not held in memory."""

import errno

import pytest
import torch

from injectfusion.core import stored_images
from injectfusion.core.files import digest
from injectfusion.core.stored_images import StoredImages

PIXELS = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[2**24, 10], ids=["in memory", "in a file"])
def stored(request, monkeypatch, tmp_path):
    monkeypatch.setattr(stored_images, "_SMALL", request.param)
    return StoredImages.of(PIXELS.split(3), tmp_path)


def test_they_have_the_shape_and_the_slices_of_a_tensor(stored):
    assert (stored.shape, stored.dtype, stored.ndim, len(stored)) == (PIXELS.shape, PIXELS.dtype, PIXELS.ndim, 7)
    for part in (slice(None), slice(2, 5), slice(6, 99), slice(4, 4), slice(None, None, 2)):
        assert torch.equal(stored[part], PIXELS[part])
    assert torch.equal(torch.cat(list(stored.chunks())), PIXELS)


def test_some_of_them_in_another_order_and_more_than_once(stored):
    order = [6, 0, 0, 3]
    chosen = stored.chosen(order)
    assert chosen.shape == (4, 3, 5, 4)
    assert torch.equal(chosen[:], PIXELS[order])
    assert torch.equal(chosen.chosen([3, 1])[:], PIXELS[[3, 0]])


def test_their_digest_is_that_of_the_tensor(stored, monkeypatch):
    monkeypatch.setattr(stored_images, "_CHUNK", 2)
    assert digest(stored) == digest(PIXELS)
    assert digest(stored.chosen([1, 0])) == digest(PIXELS[[1, 0]]) != digest(PIXELS[:2])


def test_the_file_is_gone_with_the_images(stored, tmp_path):
    del stored
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_with_its_folder(monkeypatch, tmp_path):
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stored_images.tempfile, "SpooledTemporaryFile", lambda size, dir: Full())
    with pytest.raises(OSError, match="No space left") as raised:
        StoredImages.of([PIXELS], tmp_path)
    assert raised.value.filename == str(tmp_path)
