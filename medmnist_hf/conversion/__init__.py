"""From NPZ files to sharded Parquet: sources, codecs, shards, whole builds, and the checks of what was built."""
