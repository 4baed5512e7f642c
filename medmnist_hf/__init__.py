"""MedMNIST on Hugging Face."""
