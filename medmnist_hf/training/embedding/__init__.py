"""Extract what a model's classifier sees of each image, as features for methods and for feature stores."""
