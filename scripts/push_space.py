"""Run ``medmnist-hf push-space`` from a clone of the repository."""

from medmnist_hf.cli.main import main

if __name__ == "__main__":
    main("push-space")
