"""Builder classes for `datasets`, based on `medmnist_hf.conversion`."""
