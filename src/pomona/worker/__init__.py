"""Record batches of images in, record batches of features out."""
