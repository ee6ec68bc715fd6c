"""The latent backbone, on a tiny random pipeline."""

import subprocess
import sys
from copy import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

from injectfusion.backbones.stable_diffusion import StableDiffusion
from injectfusion.core.errors import UserError
from injectfusion.ddim import eps_of
from injectfusion.hspace import replace
from injectfusion.method import Method
from injectfusion.sampling import Trajectory, generate, reverse
from injectfusion.schedule import timesteps

PROMPTS = ["a realistic photo of a woman.", "8k, wallpaper car"]
STEPS = 6


def tokenizer():
    """CLIP's, with single letters for a vocabulary."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: i for i, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


@pytest.fixture(scope="module", params=["epsilon", "v_prediction", "sample"])
def pipeline(request):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=8, use_linear_projection=True,
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=190, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=request.param,
        clip_sample=False, set_alpha_to_one=True,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text.eval(), tokenizer=tokenizer(), unet=unet.eval(), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def model(pipeline):
    return StableDiffusion(pipeline)


@pytest.fixture
def noise(model):
    return model.noise([torch.Generator().manual_seed(i) for i in range(2)])


def test_plain_generation_is_ddim_under_guidance(pipeline, model, noise):
    """The whole U-Net at once, both branches by hand."""
    prediction = pipeline.scheduler.config.prediction_type
    alpha = [*pipeline.scheduler.alphas_cumprod.tolist(), 1.0]  # [-1] is the clean image
    with torch.no_grad():
        positive, negative = pipeline.encode_prompt(PROMPTS, pipeline.device, 1, True)
        x = noise
        for t, t_prev in pairwise([*reversed(timesteps(STEPS, 1000)), -1]):
            without, with_prompt = (pipeline.unet(x, t, text).sample for text in (negative, positive))
            guided = without + 9 * (with_prompt - without)
            a_t, a_prev = alpha[t], alpha[t_prev]
            eps = {
                "epsilon": guided,
                "v_prediction": a_t**0.5 * guided + (1 - a_t) ** 0.5 * x,
                "sample": (x - a_t**0.5 * guided) / (1 - a_t) ** 0.5,
            }[prediction]
            x_0 = (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5
            x = a_prev**0.5 * x_0 + (1 - a_prev) ** 0.5 * eps
    torch.testing.assert_close(generate(model.prompted(PROMPTS), noise, STEPS), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("inject", ["conditional", "unconditional", "both"])
def test_own_content_changes_nothing(model, noise, inject):
    backbone = model.prompted(PROMPTS, inject=inject)
    content = reverse(backbone, noise, STEPS)
    plain = generate(backbone, noise, STEPS)
    # Asyrp with h(c) = h(o) is the plain step.
    injected = generate(backbone, noise, STEPS, Method(blend=replace, omega=0, t_boost=0), content)
    torch.testing.assert_close(injected, plain, rtol=1e-4, atol=1e-4)


def test_the_branch_decides_what_is_injected(model, noise):
    """Without guidance (scale 1) the branch without prompt has no weight: injecting there changes nothing."""
    results = {}
    for inject in ("conditional", "unconditional", "both"):
        backbone = model.prompted(PROMPTS, guidance=1.0, inject=inject)
        content = reverse(backbone, noise.flip(0), STEPS)
        results[inject] = generate(backbone, noise, STEPS, Method(omega=0, t_boost=0), content)
    plain = generate(model.prompted(PROMPTS, guidance=1.0), noise, STEPS)
    torch.testing.assert_close(results["unconditional"], plain)
    torch.testing.assert_close(results["conditional"], results["both"])
    assert not torch.allclose(results["conditional"], plain, atol=1e-3)


def test_an_image_does_not_depend_on_its_batch(model, noise):
    def inject(which):
        backbone = model.prompted([PROMPTS[i] for i in which])
        content = reverse(backbone, noise[which].flip(-1), STEPS)
        return generate(backbone, noise[which], STEPS, Method(t_boost=0), content)

    torch.testing.assert_close(inject([0, 1])[1:], inject([1]), rtol=1e-3, atol=1e-3)  # guidance amplifies rounding


def test_images_identity_and_user_errors(model, noise, tmp_path):
    images = model.images(noise)
    assert images.shape == (2, 3, 8, 8) and images.dtype == torch.uint8
    backbones = [
        model.prompted(PROMPTS), model.prompted(PROMPTS[::-1]), model.prompted(PROMPTS, guidance=3.0),
        model.prompted(PROMPTS, inject="both"),
    ]  # fmt: skip
    assert len({backbone.identity() for backbone in backbones}) == 4
    assert model.prompted(PROMPTS).identity() == backbones[0].identity()
    with pytest.raises(UserError, match="unknown inject 'cond'; did you mean conditional"):
        model.prompted(PROMPTS, inject="cond")
    with pytest.raises(UserError, match="cannot load Stable Diffusion from"):
        StableDiffusion.from_pretrained(str(tmp_path))


def test_a_pipeline_is_run_as_it_is_or_refused(pipeline, tmp_path, capfd):
    pipeline.save_pretrained(tmp_path)
    capfd.readouterr()
    network = StableDiffusion.from_pretrained(str(tmp_path)).prompted(PROMPTS)
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), 500
    whole = pipeline.unet(x.repeat_interleave(2, 0), t, network.embeddings.flatten(0, 1)).sample.unflatten(0, (2, 2))
    guided = whole[:, 0] + 9 * (whole[:, 1] - whole[:, 0])
    eps = eps_of(pipeline.scheduler.config.prediction_type, guided, x, pipeline.scheduler.alphas_cumprod[t].item())
    torch.testing.assert_close(network.decode(network.encode(x, t)), eps, rtol=1e-3, atol=1e-3)
    assert "Loading" not in capfd.readouterr().err

    weights = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: v for name, v in load_file(weights).items() if name != "conv_in.bias"}, weights)
    with pytest.raises(UserError, match=r"cannot load Stable Diffusion from .*: 1 missing \(first: conv_in.bias\)"):
        StableDiffusion.from_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchEulerDiscreteScheduler(), "is a FlowMatchEulerDiscreteScheduler"),
        (DDIMScheduler(rescale_betas_zero_snr=True), "zero terminal SNR"),
        (EulerDiscreteScheduler(timestep_type="continuous"), "timestep_type is continuous"),
    ],
)
def test_pipelines_with_other_schedules_are_refused(pipeline, scheduler, message):
    pipeline = copy(pipeline)
    pipeline.scheduler = scheduler
    with pytest.raises(UserError, match=f"^the scheduler of the pipeline.*{message}"):
        StableDiffusion(pipeline)


def test_a_network_for_inpainting_is_refused(pipeline):
    pipeline = copy(pipeline)
    pipeline.unet = UNet2DConditionModel(**{**pipeline.unet.config, "in_channels": 9})
    with pytest.raises(UserError, match="the network takes 9 channels, but latents have 4"):
        StableDiffusion(pipeline)


@pytest.mark.parametrize("pipeline", ["epsilon"], indirect=True)
def test_the_papers_prompts_through_the_command_line(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    command = [
        sys.executable, Path(__file__).parents[2] / "run.py", "experiment=stable_diffusion", "device=cpu",
        f"experiment.model.source={tmp_path / 'model'}", "scale.steps=3", "method.t_boost=200",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (picture,) = (tmp_path / "results").glob("stable_diffusion__*.png")
    assert f"written: results/{picture.name}" in done.stdout
    for wrong, message in (
        (
            ["method.injector=pnp", "method.site=decoder9"],
            "after method.site=decoder9, and this network has none there",
        ),
        (["method.t_edit=900", "method.t_start=950"], "slerp-g0.6-w0.3-t950-900 would inject nothing"),
    ):
        done = subprocess.run([*command, *wrong], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("injector", ["pnp", "masactrl"])
def test_other_injectors_between_prompts(injector, model, noise):
    original, content = model.prompted(PROMPTS), model.prompted(PROMPTS[::-1])
    plain = generate(original, noise, STEPS)

    def injected(gamma, own, x_T):
        given = Trajectory(x_T, torch.empty(0), ())
        method = Method(injector=injector, gamma=gamma, omega=0, t_boost=0)
        return generate(original, noise, STEPS, method, given, content_backbone=own)

    torch.testing.assert_close(injected(0, content, noise.flip(0)), plain, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(injected(1, original, noise), plain, rtol=1e-3, atol=1e-3)
    assert (injected(1, content, noise.flip(0)) - plain).abs().max() > 1e-3
