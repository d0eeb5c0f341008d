"""What may be wrong with a collection of images: one list for each question."""
