"""All assets by name: checkpoints of diffusion networks, and the files that the encoders declare."""

from injectfusion.core.assets import Asset
from metrics.encoders import arcface, facenet, inception, openclip, vgg

_SDEDIT = "https://image-editing-test-12345.s3-us-west-2.amazonaws.com/checkpoints"
_DRIVE = "open its README, follow the link to the shared drive in a browser, and save the file here"

ASSETS: dict[str, Asset] = {
    "celebahq_ddpm": Asset("celeba_hq.ckpt", "SDEdit release", "MIT (code)", 455, f"{_SDEDIT}/celeba_hq.ckpt"),
    "lsun_church_ddpm": Asset(
        "church_outdoor.ckpt", "SDEdit release", "MIT (code)", 455, f"{_SDEDIT}/church_outdoor.ckpt"
    ),
    "lsun_bedroom_ddpm": Asset("bedroom.ckpt", "SDEdit release", "MIT (code)", 455, f"{_SDEDIT}/bedroom.ckpt"),
    "afhq_dog_iddpm": Asset(
        "afhq_dog_4m.pt", "ILVR, github.com/jychoi118/ilvr_adm", "see its README", 375, manual=_DRIVE
    ),
    "ffhq_p2": Asset("ffhq_10m.pt", "ILVR, github.com/jychoi118/ilvr_adm", "see its README", 375, manual=_DRIVE),
    "metfaces_p2": Asset(
        "metface_p2.pt", "P2 weighting, github.com/jychoi118/P2-weighting", "see its README", 375, manual=_DRIVE
    ),
    "imagenet_adm_uncond": Asset(
        "256x256_diffusion_uncond.pt",
        "guided-diffusion",
        "MIT",
        2200,
        "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt",
    ),
    "inception_fid": inception.ASSET,
    "arcface_ir_se50": arcface.IR_SE50_ASSET,
    "arcface_onnx": arcface.ONNX_ASSET,
    "facenet_vggface2": facenet.ASSET,
    **{f"clip_{model}": asset for model, asset in openclip.ASSETS.items()},
    "vgg19": vgg.ASSET,
}
