"""Run ``medmnist-hf`` as ``python -m medmnist_hf``, for example under ``accelerate launch -m medmnist_hf``."""

from medmnist_hf.cli.main import main

if __name__ == "__main__":
    main()
