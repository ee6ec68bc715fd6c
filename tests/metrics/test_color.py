"""The color distance: published Lab colors, and closed forms of the distance of Gaussians."""

import pytest
import torch
from torch import Tensor

from metrics.color import color_distance, lab

# L*, a*, b* of sRGB colors under D65 as published by B. Lindbloom (brucelindbloom.com, CIE color calculator).
PUBLISHED = {
    (255, 255, 255): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
    (255, 0, 0): (53.2408, 80.0925, 67.2032),
    (0, 255, 0): (87.7347, -86.1827, 83.1793),
    (0, 0, 255): (32.2970, 79.1875, -107.8602),
    (255, 255, 0): (97.1393, -21.5537, 94.4780),
    (128, 128, 128): (53.5850, 0, 0),
}


def uniform(*colors: tuple[int, int, int]) -> Tensor:
    """(N, 3, 4, 5) uint8: images of one color each."""
    return torch.tensor(colors, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 4, 5)


def noise(n: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("color", "expected"), PUBLISHED.items())
def test_lab_of_known_colors(color, expected) -> None:
    found = lab(uniform(color))
    assert found.shape == (1, 3, 4, 5) and found.dtype == torch.float64
    assert found[0, :, 2, 3].tolist() == pytest.approx(expected, abs=2e-3)


def test_grays_have_no_color_and_rise_in_lightness() -> None:
    grays = lab(torch.arange(256, dtype=torch.uint8).expand(3, 1, 256))
    assert grays[1:].abs().max() < 1e-4
    assert (grays[0, 0].diff() > 0).all()


def test_the_distance_of_an_image_to_itself_is_zero_wherever_its_pixels_are() -> None:
    images = noise(40)
    gray = images[:, :1].expand(-1, 3, -1, -1)  # a covariance that is singular
    for some in (images, gray, uniform((3, 200, 70))):
        assert color_distance(some, some).tolist() == [0] * len(some)
    assert color_distance(images, images.flip(-1)).tolist() == pytest.approx([0] * 40, abs=1e-5)


def test_of_uniform_images_it_is_the_euclidean_distance_of_their_colors() -> None:
    colors = list(PUBLISHED)
    first, second = uniform(*colors), uniform(*colors[1:], colors[0])
    expected = (lab(first) - lab(second))[:, :, 0, 0].norm(dim=1)
    assert color_distance(first, second).tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert float(color_distance(uniform((255, 255, 255)), uniform((0, 0, 0)))) == pytest.approx(100, abs=1e-4)


def test_of_grays_it_is_the_distance_of_normal_distributions_in_one_dimension() -> None:
    # Between N(m, s^2) and N(n, t^2): (m - n)^2 + (s - t)^2.
    light, dark = noise(1)[:, :1].expand(-1, 3, -1, -1), noise(1, 1)[:, :1].expand(-1, 3, -1, -1) // 3
    (m, s), (n, t) = ((x.mean(), x.std(correction=0)) for x in (lab(light)[0, 0], lab(dark)[0, 0]))
    expected = ((m - n) ** 2 + (s - t) ** 2).sqrt()
    assert float(color_distance(light, dark)) == pytest.approx(float(expected), rel=1e-6)


def test_it_is_symmetric_and_grows_along_a_blend() -> None:
    first, second = noise(20), noise(20, 1) // 2
    there, back = color_distance(first, second), color_distance(second, first)
    assert there.tolist() == pytest.approx(back.tolist(), rel=1e-9)
    blends = [((4 - k) * first.int() + k * second.int()) // 4 for k in range(5)]
    means = torch.stack([color_distance(first, blend.to(torch.uint8)) for blend in blends]).mean(dim=1)
    assert (means.diff() > 0).all()


def test_it_does_not_depend_on_the_batch_or_the_size() -> None:
    first, second = noise(20), noise(20, 1)
    large = second.repeat_interleave(2, dim=-1)
    alone = torch.cat([color_distance(first[i : i + 1], second[i : i + 1]) for i in range(20)])
    assert color_distance(first, second).tolist() == pytest.approx(alone.tolist(), rel=1e-9)
    assert color_distance(first, large).tolist() == pytest.approx(alone.tolist(), rel=1e-9)
