"""What a person calls a data set, and where it is: one answer for every function and command."""
