"""Conversion of NPZ files to sharded Parquet: sources, codecs, shards, builds, and checks of finished builds."""
