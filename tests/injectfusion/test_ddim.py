"""Schedule, DDIM steps and latent calibration: equations (1) to (3), (10), (11)."""

import math

import pytest
import torch

from injectfusion import ddim
from injectfusion.calibration import calibrate, match_statistics, shift_latent
from injectfusion.schedule import linear_alpha_cumprod, timesteps


def batch(seed: int) -> torch.Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_alpha_cumprod_is_the_product_of_one_minus_beta():
    alpha_cumprod = linear_alpha_cumprod()
    betas = [1e-4 + i * (0.02 - 1e-4) / 999 for i in range(1000)]
    assert alpha_cumprod[499].item() == pytest.approx(math.prod(1 - beta for beta in betas[:500]), rel=1e-12)
    assert math.sqrt(alpha_cumprod[-1]) == pytest.approx(0.0064, abs=1e-4)


def test_schedule_matched_to_a_size_shifts_the_log_snr():
    full, matched = linear_alpha_cumprod(), linear_alpha_cumprod(32)
    shift = torch.logit(matched) - torch.logit(full)
    torch.testing.assert_close(shift, torch.full_like(shift, 2 * math.log(8)))


def test_timesteps_of_the_reference_implementation():
    assert timesteps(5) == [0, 249, 499, 749, 999]
    assert timesteps(1000) == list(range(1000))
    fifty = timesteps(50)
    assert (len(set(fifty)), fifty[0], fifty[-1]) == (50, 0, 999)


@pytest.mark.parametrize("steps", [-1, 0, 1, 1001])
def test_timesteps_refuse_what_is_no_sequence(steps):
    with pytest.raises(ValueError, match="steps must be in"):
        timesteps(steps)


def test_step_with_the_true_noise_follows_the_forward_process():
    """With the eps that made x_t, a step lands on sqrt(a') x_0 + sqrt(1 - a') eps, and at a' = 1 on x_0."""
    x_0, eps = batch(0).double(), batch(1).double()
    a_t, a_prev = 0.3, 0.7
    x_t = math.sqrt(a_t) * x_0 + math.sqrt(1 - a_t) * eps
    torch.testing.assert_close(ddim.predict_x0(x_t, eps, a_t), x_0)
    expected = math.sqrt(a_prev) * x_0 + math.sqrt(1 - a_prev) * eps
    torch.testing.assert_close(ddim.step(x_t, eps, a_t, a_prev), expected)
    torch.testing.assert_close(ddim.step(x_t, eps, a_t, 1.0), x_0)
    torch.testing.assert_close(ddim.step(expected, eps, a_prev, a_t), x_t)  # and back


def test_velocity_of_the_forward_process_gives_its_noise():
    x_0, eps, a_t = batch(0), batch(1), 0.3
    x_t = a_t**0.5 * x_0 + (1 - a_t) ** 0.5 * eps
    v = a_t**0.5 * eps - (1 - a_t) ** 0.5 * x_0
    torch.testing.assert_close(ddim.eps_of_velocity(v, x_t, a_t), eps)


def test_asyrp_edits_only_the_prediction():
    x, eps, edited = batch(0).double(), batch(1).double(), batch(2).double()
    a_t, a_prev = 0.4, 0.6
    direction = ddim.step(x, eps, a_t, a_prev) - math.sqrt(a_prev) * ddim.predict_x0(x, eps, a_t)
    expected = math.sqrt(a_prev) * ddim.predict_x0(x, edited, a_t) + direction
    torch.testing.assert_close(ddim.step(x, eps, a_t, a_prev, eps_edited=edited), expected)


def test_noise_of_a_full_stochastic_step_is_the_posterior():
    """eta = 1 is DDPM: sigma^2 is the posterior variance; the last step adds none."""
    a_t, a_prev = 0.4, 0.6
    beta = 1 - a_t / a_prev
    assert ddim.sigma(a_t, a_prev, 1.0) ** 2 == pytest.approx((1 - a_prev) / (1 - a_t) * beta)
    assert ddim.sigma(a_t, a_prev, 0.0) == 0
    assert ddim.sigma(a_t, 1.0, 1.0) == 0


def test_stochastic_step_keeps_the_marginal_variance():
    """For x_0 = 0 and true eps, x_prev has variance 1 - a_prev whatever eta is."""
    generator = torch.Generator().manual_seed(0)
    eps, noise = (torch.randn(1, 1, 400, 400, generator=generator, dtype=torch.float64) for _ in range(2))
    a_t, a_prev = 0.4, 0.6
    x_prev = ddim.step(math.sqrt(1 - a_t) * eps, eps, a_t, a_prev, noise=noise, eta=1.0)
    assert x_prev.var().item() == pytest.approx(1 - a_prev, rel=0.02)


def test_match_statistics_takes_the_spread_and_keeps_the_mean():
    x, target = 2 + 5 * batch(0), batch(1) - 3
    matched = match_statistics(x, target)
    torch.testing.assert_close(matched.std((1, 2, 3)), target.std((1, 2, 3)))
    torch.testing.assert_close(matched.mean((1, 2, 3)), x.mean((1, 2, 3)))


def test_omega_one_without_matching_is_no_injection():
    x, eps, edited = batch(0).double(), batch(1).double(), batch(2).double()
    a_t = 0.3
    x_0, x_0_edited = ddim.predict_x0(x, eps, a_t), ddim.predict_x0(x, edited, a_t)
    torch.testing.assert_close(shift_latent(x, x_0, x_0_edited, eps, edited, a_t, omega=1.0), x)


def test_calibration_moves_linearly_with_omega():
    x, eps, edited = batch(0).double(), batch(1).double(), batch(2).double()
    torch.testing.assert_close(calibrate(x, eps, eps, 0.3, omega=0.3), x)  # the identity if nothing is edited
    moved = [calibrate(x, eps, edited, 0.3, omega) for omega in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(moved[1], (moved[0] + moved[2]) / 2)
    torch.testing.assert_close(moved[2] - moved[0], math.sqrt(0.7) * (edited - eps))
