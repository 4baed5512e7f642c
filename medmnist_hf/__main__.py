"""``python -m medmnist_hf`` is the command ``medmnist-hf``, also for ``accelerate launch -m medmnist_hf``."""

from medmnist_hf.cli.main import main

if __name__ == "__main__":
    main()
