"""Several subsets as one: global labels, one data set, and the scores of each subset."""
