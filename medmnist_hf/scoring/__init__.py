"""Scores against labels: the official AUC and ACC, further metrics, intervals, comparison, published results."""
