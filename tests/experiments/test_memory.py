"""Batches that do not fit into memory."""

from collections.abc import Sequence

import pytest
import torch

from experiments.engine.memory import Memory, batch_size, room


def test_batches_are_halved_until_they_fit_and_the_size_is_remembered():
    tried: list[int] = []

    def compute(part: Sequence[int]) -> list[int]:
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError
        return list(part)

    memory = Memory()
    assert [i for part in memory.parts(range(10, 26), compute) for i in part] == list(range(10, 26))
    assert tried == [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    tried.clear()
    assert list(memory.parts(range(3), compute)) == [[0, 1], [2]]
    assert tried == [2, 1]


def test_a_single_image_that_does_not_fit_is_an_error():
    def compute(part: Sequence[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(Memory().parts(range(4), compute))


def test_the_automatic_batch_size_depends_on_the_kind_of_device():
    assert batch_size(5, "cuda") == 5
    assert batch_size("auto", "cpu") == 16
    assert batch_size("auto", "cuda:1") == 128


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_a_gpu_that_runs_out_is_no_error():
    free = torch.cuda.mem_get_info()[0]

    def compute(part: Sequence[int]) -> int:
        torch.empty(len(part), free // 3, dtype=torch.uint8, device="cuda")
        return len(part)

    assert sum(Memory().parts(range(8), compute)) == 8
    assert 0 < room("cuda") <= free
    assert room("cpu") == 0
