"""``medmnist-hf benchmark``, for those who cloned."""

from medmnist_hf.cli.main import main

if __name__ == "__main__":
    main("benchmark")
