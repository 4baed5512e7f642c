"""Data set cards: templates, references and what renders them."""
