"""Statistics of the data: sums of pixels and label counts, of builds and as recorded for official files."""
