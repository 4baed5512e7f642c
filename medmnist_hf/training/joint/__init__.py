"""The results of a run on several subsets."""
