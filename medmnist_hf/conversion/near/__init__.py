"""Near duplicates: images that show the same picture, shifted, turned, brightened, or compressed again."""
