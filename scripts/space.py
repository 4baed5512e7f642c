"""Run ``medmnist-hf space`` from a clone of the repository."""

from medmnist_hf.cli.main import main

if __name__ == "__main__":
    main("space")
