"""The command `medmnist-hf`: one module per group of verbs."""
