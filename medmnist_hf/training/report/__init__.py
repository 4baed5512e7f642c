"""What a run leaves for people: figures, cases, maps, the model card, tables on the terminal."""
