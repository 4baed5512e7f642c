"""Which codec encodes what, and WebP without loss; the PNG encoder has tests of its own."""

import io

import numpy as np
import pytest
from PIL import Image

from medmnist_hf.conversion.encode import encode_png, encode_webp, encoder
from medmnist_hf.errors import BuildError


def test_codecs_by_name() -> None:
    assert encoder("png", 1) is encode_png
    assert encoder("png", 3) is encode_png
    assert encoder("webp", 3) is encode_webp


@pytest.mark.parametrize(
    ("codec", "channels", "match"),
    [
        ("webp", 1, r"--codec webp is for RGB subsets.*use --codec png"),
        ("jpeg", 3, r"unknown codec 'jpeg': choose from png, webp"),
    ],
)
def test_what_cannot_be_encoded(codec: str, channels: int, match: str) -> None:
    with pytest.raises(BuildError, match=match) as caught:
        encoder(codec, channels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [28, 64, 224])
def test_webp_is_lossless(size: int) -> None:
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (3, size, size, 3), np.uint8)
    smooth = np.broadcast_to(np.arange(size, dtype=np.uint8)[None, :, None, None], noise.shape)
    for images in (noise, np.ascontiguousarray(smooth), np.where(noise < 40, 255, 0).astype(np.uint8)):
        for image, file in zip(images, encode_webp(images).to_pylist(), strict=True):
            with Image.open(io.BytesIO(file)) as opened:
                assert (opened.format, opened.mode) == ("WEBP", "RGB")
                assert np.array_equal(np.asarray(opened), image)
