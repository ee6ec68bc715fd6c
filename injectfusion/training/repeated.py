"""A training step that is run many times: as a CUDA graph on a GPU."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_WARM_UP = 4  # steps before the capture: torch.compile, cuDNN's choice of algorithms, and Adam's state come first


def repeated(step: Callable[[], Tensor], device: str) -> Iterator[Tensor]:
    """Run a step whenever the next item is asked for; the items are what it returns.

    On a GPU, the first steps run as they are. Then the step is captured as one CUDA graph, which is replayed from then
    on, without the cost of launching each of its kernels. So what changes from step to step must be in tensors on the
    GPU, such as the learning rate. Random numbers continue to follow the seed of the GPU's default generator.
    """
    if device == "cpu":
        while True:
            yield step()
    stream = torch.cuda.Stream()
    for _ in range(_WARM_UP):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = step()
        torch.cuda.current_stream().wait_stream(stream)
        yield result
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # records the step and does not run it
        result = step()
    while True:
        graph.replay()
        yield result
