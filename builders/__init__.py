"""NPZ -> sharded Parquet: sources, reader, encoders, builders, verification, audit."""
