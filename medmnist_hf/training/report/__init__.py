"""Reports of a run: figures, test cases, attribution maps, the model card and tables on the terminal."""
