"""From the name of a data set to its rows, building what is missing where that is asked for."""
