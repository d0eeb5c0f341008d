"""Where Spark reads images and writes tables."""
