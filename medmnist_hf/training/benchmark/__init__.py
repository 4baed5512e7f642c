"""Benchmarks: a matrix of runs, their execution and status, and the report on them."""
