"""Images inside archives: tar files, such as WebDataset's shards, and zip files."""
