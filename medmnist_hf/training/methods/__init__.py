"""The methods that make a model predict the labels of a subset."""

from medmnist_hf.extras import require_modules

require_modules("train", "torch")
