"""Rules on what is known about the source images of a subset."""
