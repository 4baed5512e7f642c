"""Augmentation by a function in a Python file of the user, checked on a trial batch before training.

Example:
    >>> from medmnist_hf.training.data import BatchTransform
    >>> own = OwnAugmentation("my.py:augment")  # the file runs when it is first called
    >>> BatchTransform(augment=[own], seed=0).draws_globally
    True
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Generator, Tensor

from medmnist_hf.errors import TrainingError
from medmnist_hf.own_code.names import AUGMENTATION_FILE, public_code
from medmnist_hf.own_code.running import OWN_ERRORS, describe_value, explain, load_code

_TRIAL: Final = 4
"""Rows of the trial batch."""

GENERATOR: Final = "generator"
"""Name of the argument for the generator."""


@dataclass(frozen=True)
class OwnAugmentation:
    """A function of a batch as stored: uint8 (B, C, H, W), or (B, C, D, H, W) for volumes.

    It returns a batch of the same shape and type. Random numbers are from its argument ``generator``, a CPU generator,
    or from torch's global generator. Both are seeded for each batch, so that the same batch always gives the same
    images. The batch is a copy that may be changed.

    Attributes:
        name: The function, as ``my.py:augment``.
    """

    name: str

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Change a batch.

        Raises:
            TrainingError: The function fails, or returns another shape or type.
        """
        function = load_code(self.name, AUGMENTATION_FILE)
        options: dict[str, Any] = {GENERATOR: generator} if _takes_generator(function) else {}
        try:
            changed = function(images.clone(memory_format=torch.contiguous_format), **options)
        except OWN_ERRORS as error:
            raise TrainingError(f"{public_code(self.name)} failed ({explain(error, self.name)}): fix it") from None
        if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (images.shape, images.dtype):
            raise TrainingError(
                f"{public_code(self.name)} returned {describe_value(changed)} for {describe_value(images)}: return a "
                "tensor of the same shape and type"
            )
        return changed

    def check(self, shape: Sequence[int]) -> None:
        """Call the function twice on the same random batch, with the same seed.

        Args:
            shape: Channels and sides of an image: (C, H, W) or (C, D, H, W).

        Raises:
            TrainingError: As for a call; or the results differ, so that a run could not be resumed or repeated.
        """
        content = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (_TRIAL, *shape), dtype=torch.uint8, generator=content)
        results = []
        for _ in range(2):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(1)
                results.append(self(images, torch.Generator().manual_seed(1)))
        if not torch.equal(*results):
            raise TrainingError(
                f"{public_code(self.name)} gives other images when it is called again with the same seed: draw random "
                f"numbers from its argument {GENERATOR}, or from torch without a generator of its own"
            )


def _takes_generator(function: Any) -> bool:
    try:
        return GENERATOR in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables have no signature
        return False
