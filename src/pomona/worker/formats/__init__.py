"""What each image format needs beyond Pillow."""
