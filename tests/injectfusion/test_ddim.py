"""Schedule, DDIM steps and latent calibration: equations (1) to (3), (10), (11)."""

import math

import pytest
import torch

from injectfusion import ddim
from injectfusion.backbones.base import Backbone, Features
from injectfusion.calibration import calibrate, match_statistics, shift_latent
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest
from injectfusion.sampling import invert
from injectfusion.schedule import kept_timesteps, linear_alpha_cumprod, matched_timesteps, timesteps


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


def test_the_schedule_has_the_same_bits_on_every_processor():
    """It is part of the identity of every result."""
    assert digest(linear_alpha_cumprod()).startswith("61fd214fd124cfc4")
    assert digest(linear_alpha_cumprod(16)).startswith("2a188cd2fd7cd507")


def test_matched_timesteps_have_the_signal_to_noise_ratio_of_training():
    trained, other = linear_alpha_cumprod(16), linear_alpha_cumprod(12)
    assert torch.equal(matched_timesteps(trained, trained), torch.arange(1000, dtype=torch.float64))
    matched = matched_timesteps(other, trained)
    assert (matched.diff() >= 0).all()
    inside = matched > 0  # at 12 px there is less noise: the first timesteps have less than training ever had
    assert 0 < (~inside).sum() < 30 and matched[-1] < 999
    low, high = torch.logit(trained)[matched.floor().long()], torch.logit(trained)[matched.ceil().long()]
    between = low + (matched - matched.floor()) * (high - low)
    torch.testing.assert_close(between[inside], torch.logit(other)[inside], rtol=0, atol=1e-9)
    assert matched_timesteps(trained, other)[-1] == 999  # noisier than any timestep of training


def test_timesteps_of_the_reference_implementation():
    assert timesteps(5, 1000) == [0, 249, 499, 749, 999]
    assert timesteps(1000, 1000) == list(range(1000))
    fifty = timesteps(50, 1000)
    assert (len(set(fifty)), fifty[0], fifty[-1]) == (50, 0, 999)


@pytest.mark.parametrize("train_steps", [2, 3, 500, 4000])
def test_timesteps_of_other_lengths_reach_from_the_first_to_the_last(train_steps):
    assert timesteps(2, train_steps) == [0, train_steps - 1]
    assert timesteps(train_steps, train_steps) == list(range(train_steps))
    assert kept_timesteps(2, train_steps, "reverse") == (0, train_steps - 1)
    assert kept_timesteps(2, train_steps, "inversion") == (0,)


@pytest.mark.parametrize(("steps", "train_steps"), [(-1, 1000), (0, 1000), (1, 1000), (1001, 1000), (200, 100), (2, 1)])
def test_timesteps_refuse_what_is_no_sequence(steps, train_steps):
    with pytest.raises(UserError, match=rf"steps must be in \[2, {train_steps}\], got {steps}"):
        timesteps(steps, train_steps)


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


def test_every_prediction_of_the_forward_process_gives_its_noise():
    x_0, eps, a_t = batch(0), batch(1), 0.3
    x_t = a_t**0.5 * x_0 + (1 - a_t) ** 0.5 * eps
    v = a_t**0.5 * eps - (1 - a_t) ** 0.5 * x_0
    for prediction, output in (("epsilon", eps), ("v_prediction", v), ("sample", x_0)):
        torch.testing.assert_close(ddim.eps_of(prediction, output, x_t, a_t), eps)
    with pytest.raises(UserError, match="unknown prediction type 'flow_prediction'; did you mean v_prediction"):
        ddim.eps_of("flow_prediction", eps, x_t, a_t)


class Gaussian(Backbone):
    """The best possible network for images of independent pixels N(0, s^2), which predicts eps, v or x_0.

    E[x_0 | x_t] = sqrt(a) s^2 x_t / (a s^2 + 1 - a).
    """

    def __init__(self, prediction: ddim.Prediction, s: float) -> None:
        super().__init__()
        self.alpha_cumprod, self.prediction, self.s = linear_alpha_cumprod(steps=300), prediction, s

    def configuration(self):
        return {}

    def encode(self, x_t, t):
        return Features(x_t[:, :, :1, :1], (), x_t.new_zeros(len(x_t), 1), x_t, t)

    def decode(self, features, h=None):
        x_t, a_t = features.x_t, self.alpha_cumprod[features.t].item()
        x_0 = a_t**0.5 * self.s**2 * x_t / (a_t * self.s**2 + 1 - a_t)
        eps = (x_t - a_t**0.5 * x_0) / (1 - a_t) ** 0.5
        output = {"epsilon": eps, "v_prediction": a_t**0.5 * eps - (1 - a_t) ** 0.5 * x_0, "sample": x_0}
        return ddim.eps_of(self.prediction, output[self.prediction], x_t, a_t)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_inversion_of_gaussian_images_has_the_closed_form_whatever_is_predicted(prediction):
    """The exact ODE scales every pixel to the standard deviation at the noisy end; many steps come close to it."""
    x_0, s = batch(0).double(), 0.5
    network = Gaussian(prediction, s)
    a_0, a_T = (network.alpha_cumprod[i].item() for i in (0, -1))
    scale = ((a_T * s**2 + 1 - a_T) / (a_0 * s**2 + 1 - a_0)) ** 0.5
    found = invert(network, x_0, 300)
    torch.testing.assert_close(found.x_T, scale * x_0, rtol=0.02, atol=0)
    assert found.timesteps == tuple(range(299))
    same = invert(Gaussian("epsilon", s), x_0, 300).x_T
    torch.testing.assert_close(found.x_T, same, rtol=1e-9, atol=1e-9)


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
