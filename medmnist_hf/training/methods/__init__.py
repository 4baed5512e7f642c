"""The methods by which a model is made to predict a subset's labels."""

from medmnist_hf.extras import require_modules

require_modules("train", "torch")
