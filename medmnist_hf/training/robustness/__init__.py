"""The robustness of a model to the corruptions of MedMNIST-C."""
