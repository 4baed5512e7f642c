"""Builder classes of `datasets` over `medmnist_hf.conversion`."""
