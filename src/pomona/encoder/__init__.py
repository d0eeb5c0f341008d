"""Everything that decides a feature vector: known networks, and the blob that travels."""
