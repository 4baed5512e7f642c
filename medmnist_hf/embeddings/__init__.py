"""The feature store: what a model's classifier sees of each image, in Parquet shards like those of the images."""
