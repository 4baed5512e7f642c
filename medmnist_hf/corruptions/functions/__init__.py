"""The functions that corrupt an RGB image, by what they imitate; `medmnist_hf.corruptions.apply` lists them."""
