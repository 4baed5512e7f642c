"""``medmnist_hf.training.data.buffers``: memory comes back when nobody looks at it any more, and not before."""

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
def test_what_is_held_is_never_written_to(steps: list[tuple[bool, int, int, torch.dtype]]) -> None:
    """Makes and drops tensors in any order; each that is still held has what was put into it."""
    buffers = Buffers(keep=3)
    held: list[tuple[int, Tensor]] = []
    for number, (make, which, size, dtype) in enumerate(steps):
        if make:
            held.append((number % 200, buffers.empty((1, size), dtype).fill_(number % 200)))
        elif held:
            del held[which % len(held)]
        assert all((tensor == value).all() for value, tensor in held)


@pytest.mark.parametrize("keep_by", [lambda tensor: tensor[1:, ::2], lambda tensor: tensor.numpy()[0], Tensor.view_as])
def test_a_view_or_an_array_holds_the_memory(keep_by: object) -> None:
    buffers = Buffers()
    tensor = buffers.empty((3, 4), torch.float32).fill_(7)
    part = tensor.view_as(tensor) if keep_by is Tensor.view_as else keep_by(tensor)  # type: ignore[operator]
    place = tensor.data_ptr()
    del tensor
    gc.collect()
    other = buffers.empty((3, 4), torch.float32).fill_(0)
    assert other.data_ptr() != place
    assert (part == 7).all()


def test_memory_is_used_again_also_for_something_smaller() -> None:
    buffers = Buffers()
    places = []
    for size in (1000, 1000, 10, 1000):
        tensor = buffers.empty((size,), torch.float32)
        places.append(tensor.data_ptr())
        assert tensor.shape == (size,)
        assert tensor.is_contiguous()
        del tensor
    assert len(set(places)) == 1
    assert buffers.empty((2000,), torch.float32).shape == (2000,)


def test_little_is_kept_of_what_was_needed_once() -> None:
    buffers = Buffers(keep=2)
    many = [buffers.empty((100,), torch.uint8) for _ in range(10)]
    del many
    assert len(buffers._unused) == 2


def test_a_pickled_copy_is_empty_and_works() -> None:
    buffers = Buffers(keep=2)
    buffers.empty((1 << 20,), torch.uint8)
    content = pickle.dumps(buffers)
    assert len(content) < 200
    assert pickle.loads(content).empty((3,), torch.uint8).shape == (3,)  # noqa: S301  (made two lines above)


def test_threads_may_share_it() -> None:
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
