"""Export builds to the file formats of other tools: one module per format."""
