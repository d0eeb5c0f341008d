"""What is wrong with the images of a feature table, one module for each question."""
