"""Shared by tests: a backbone small enough to run in milliseconds, and a machine that is logged out of W&B."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

# Tests run in parallel processes (pyproject.toml): one thread each, as threads of several processes on the same cores
# wait for one another. Before torch is imported, and for every program that a test starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from diffusers import UNet2DModel

from experiments.store.cell import Store
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.schedule import linear_alpha_cumprod


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that the two processes end at about the same time."""
    items.sort(key=lambda item: item.path.name != "test_run.py")


def tiny_unet(**changes: object) -> UNet2DModel:
    """A U-Net of two levels for 16 px, or one that differs in some arguments."""
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    }
    unet = UNet2DModel(**(settings | changes))
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.2)  # an untrained network is rougher than any trained one
    return unet


@pytest.fixture(scope="session")
def backbone() -> UNetBackbone:
    # Matched to 16 px: untrained, the network at 256 would magnify rounding by 1 / sqrt(a_T) = 157.
    return UNetBackbone(tiny_unet(), linear_alpha_cumprod(16))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


@pytest.fixture
def images() -> torch.Tensor:
    """(4, 3, 16, 16) smooth images in [-1, 1]."""
    noise = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, size=16, mode="bilinear").tanh()


@pytest.fixture
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """Logged out of W&B; anything sent would go to this socket."""
    import wandb  # takes a second, which only tests of tracking need

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_CONFIG_DIR": str(tmp_path / "config")}
        proxies = dict.fromkeys(("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
        for name, value in {**home, **proxies}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        wandb.teardown()  # its service keeps the environment that it was started in
        yield server
        wandb.teardown()


@pytest.fixture(scope="module")
def chromium():
    """A browser, for pages that the project makes."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra [dev]")
    with playwright.sync_playwright() as driver:
        installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        try:
            browser = driver.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"needs Chromium, installed or by `playwright install chromium`: {str(error).splitlines()[0]}")
        yield browser
        browser.close()
