"""Ways to run a network: precision, memory layout, compilation for one batch size."""

from functools import partial

import pytest
import torch
from conftest import tiny_unet
from torch import Tensor

from injectfusion.backbones.base import Backbone, Features
from injectfusion.backbones.execution import Execution
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.method import Method
from injectfusion.sampling import generate, invert, pair_generator
from injectfusion.schedule import linear_alpha_cumprod

SITES = ("h", "decoder1", "skips", "h+skips")


def network(execution: Execution) -> UNetBackbone:
    return UNetBackbone(tiny_unet(), linear_alpha_cumprod(16)).prepared(execution)


@pytest.fixture(autouse=True)
def tf32_as_before():
    yield
    Execution().allow_tf32()


@pytest.mark.parametrize("site", SITES)
def test_bfloat16_stays_inside_the_network(site, backbone, images):
    half = network(Execution(precision="bf16")).at(site)
    features = half.encode(images, 400)
    eps = half.decode(features)
    assert {features.h.dtype, eps.dtype} == {torch.float32}
    assert half.unet.dtype == torch.bfloat16
    exact = backbone.at(site).decode(backbone.at(site).encode(images, 400))
    error = float((eps - exact).norm() / exact.norm())
    assert 1e-5 < error < 0.02  # 8 bits of significand


def test_precision_is_in_the_identity_and_other_ways_to_run_are_not(backbone):
    same = [Execution(), Execution(layout="contiguous"), Execution(compiled_batch=4)]
    assert {network(execution).identity() for execution in same} == {backbone.identity()}
    others = {network(Execution(precision=precision)).identity() for precision in ("float32", "bf16")}
    assert len(others | {backbone.identity()}) == 3


def test_tf32_is_allowed_or_forbidden():
    network(Execution(precision="float32"))
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    network(Execution())
    assert torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize(
    ("device", "precision", "channels_last"),
    [("cpu", "tf32", True), ("cuda", "tf32", False), ("cuda:1", "float32", False), ("cuda", "bf16", True)],
)
def test_the_layout_is_the_faster_one_of_the_device(device, precision, channels_last):
    assert Execution(device, precision).channels_last == channels_last


def test_layouts_agree(backbone, images):
    other = network(Execution(layout="contiguous"))
    assert other.unet.conv_in.weight.is_contiguous()
    assert backbone.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(other.decode(other.encode(images, 7)), backbone.decode(backbone.encode(images, 7)))


def test_a_compiled_network_sees_one_batch_size_and_gives_the_same_results(backbone, images, monkeypatch):
    compiled: list[list[int]] = []  # the batch of each graph's inputs

    def note(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(sorted({len(x) for x in inputs if isinstance(x, Tensor) and x.ndim == 4 and x.shape[2] > 3}))
        return graph

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=note))
    fast = network(Execution(compiled_batch=3))
    method, steps = Method(t_boost=0), 4
    for n in (3, 1, 2):
        found = []
        for runs in (fast, backbone):
            content = invert(runs, images[:n], steps)
            found.append(generate(runs, content.x_T.flip(0), steps, method, content, [pair_generator(0, 0)] * n))
        assert len(found[0]) == n
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert len(compiled) == 3  # the encoder, the decoder, and the two stacked decoders, once each
    assert all(set(batch) <= {3, 6} for batch in compiled)


def test_sites_share_what_was_compiled(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: calls.append(function) or function)
    fast = network(Execution(compiled_batch=2))
    for site in ("h", "skips", "h", "decoder1", "skips"):
        fast.at(site).encode(torch.zeros(2, 3, 16, 16), 0)
    assert len(calls) == 4  # two halves, split after the bottleneck and after the first decoder level


def test_a_backbone_of_another_kind_says_that_it_runs_in_float32_only():
    class Plain(Backbone):
        alpha_cumprod = linear_alpha_cumprod(16)

        def encode(self, x_t: Tensor, t: int) -> Features:
            raise NotImplementedError

        def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
            raise NotImplementedError

        def configuration(self) -> dict[str, object]:
            return {}

    plain = Plain()
    assert plain.prepared(Execution()) is plain
    for execution in (Execution(precision="bf16"), Execution(compiled_batch=2)):
        with pytest.raises(UserError, match="Plain runs in float32, and is not compiled: leave precision=tf32"):
            plain.prepared(execution)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("execution", "tolerance"),
    [
        (Execution("cuda", "float32"), 1e-4),
        (Execution("cuda"), 1e-2),
        (Execution("cuda", "bf16"), 5e-2),
        (Execution("cuda", compiled_batch=3), 1e-2),
        (Execution("cuda", compiled_batch=3, cuda_graphs=True), 1e-2),
        (Execution("cuda", "bf16", compiled_batch=3, cuda_graphs=True), 5e-2),
    ],
    ids=lambda value: value.description if isinstance(value, Execution) else "",
)
def test_a_gpu_gives_the_results_of_the_cpu(execution, tolerance, backbone, images):
    fast, method, steps = network(execution), Method(t_boost=0), 4
    found = []
    for runs, device in ((backbone, "cpu"), (fast, "cuda")):
        content = invert(runs, images[:2].to(device), steps)
        generators = [pair_generator(0, i) for i in range(2)]
        found.append(generate(runs, content.x_T.flip(0), steps, method, content, generators).cpu())
    assert float((found[1] - found[0]).norm() / found[0].norm()) < tolerance


def test_an_execution_is_described_for_provenance():
    assert Execution().description == "tf32, channels last"
    whole = Execution("cuda", "bf16", compiled_batch=8, cuda_graphs=True)
    assert whole.description == "bf16, channels last, compiled for batches of 8, CUDA graphs"
    assert Execution("cuda").description == "tf32, contiguous"


def test_the_copies_for_cuda_graphs_change_nothing(backbone, images, monkeypatch):
    modes: list[str | None] = []
    monkeypatch.setattr(torch, "compile", lambda function, mode, **_: modes.append(mode) or function)
    fast = network(Execution(compiled_batch=3, cuda_graphs=True))
    features = fast.encode(images[:2], 7)
    torch.testing.assert_close(fast.decode(features), backbone.decode(backbone.encode(images[:2], 7)))
    assert modes == ["reduce-overhead", "reduce-overhead"]
