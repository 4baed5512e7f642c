"""``medmnist_hf.training.data.buffers``: memory is reused once it is no longer referenced, and not before."""

import gc
import pickle
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmnist_hf.training.data.buffers import Buffers

DTYPES = (torch.uint8, torch.float32, torch.bfloat16)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 5000), st.sampled_from(DTYPES))))
@settings(max_examples=150, deadline=None)
def test_memory_of_live_tensors_is_never_overwritten(steps: list[tuple[bool, int, int, torch.dtype]]) -> None:
    """Make and drop tensors in any order; all live tensors keep their values."""
    buffers = Buffers(keep=3)
    live: list[tuple[int, Tensor]] = []
    for number, (make, which, size, dtype) in enumerate(steps):
        if make:
            live.append((number % 200, buffers.empty((1, size), dtype).fill_(number % 200)))
        elif live:
            del live[which % len(live)]
        assert all((tensor == value).all() for value, tensor in live)


@pytest.mark.parametrize("view_of", [lambda tensor: tensor[1:, ::2], lambda tensor: tensor.numpy()[0], Tensor.view_as])
def test_a_view_or_an_array_keeps_the_memory(view_of: object) -> None:
    buffers = Buffers()
    tensor = buffers.empty((3, 4), torch.float32).fill_(7)
    view = tensor.view_as(tensor) if view_of is Tensor.view_as else view_of(tensor)  # type: ignore[operator]
    address = tensor.data_ptr()
    del tensor
    gc.collect()
    other = buffers.empty((3, 4), torch.float32).fill_(0)
    assert other.data_ptr() != address
    assert (view == 7).all()


def test_memory_is_reused_even_for_smaller_tensors() -> None:
    buffers = Buffers()
    addresses = []
    for size in (1000, 1000, 10, 1000):
        tensor = buffers.empty((size,), torch.float32)
        addresses.append(tensor.data_ptr())
        assert tensor.shape == (size,)
        assert tensor.is_contiguous()
        del tensor
    assert len(set(addresses)) == 1
    assert buffers.empty((2000,), torch.float32).shape == (2000,)


def test_the_number_of_unused_blocks_is_limited() -> None:
    buffers = Buffers(keep=2)
    many = [buffers.empty((100,), torch.uint8) for _ in range(10)]
    del many
    assert len(buffers._unused) == 2


def test_a_pickled_copy_is_empty_and_works() -> None:
    buffers = Buffers(keep=2)
    buffers.empty((1 << 20,), torch.uint8)
    content = pickle.dumps(buffers)
    assert len(content) < 200
    assert pickle.loads(content).empty((3,), torch.uint8).shape == (3,)  # noqa: S301  (pickled above)


def test_buffers_can_be_shared_by_threads() -> None:
    buffers = Buffers()
    wrong: list[int] = []

    def work(value: int) -> None:
        for _ in range(300):
            tensors = [buffers.empty((64, 64), torch.uint8).fill_(value) for _ in range(3)]
            if any(np.any(tensor.numpy() != value) for tensor in tensors):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
