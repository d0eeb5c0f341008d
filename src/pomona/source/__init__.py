"""What images there are, and their bytes."""
