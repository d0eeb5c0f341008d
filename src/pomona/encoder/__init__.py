"""Everything that decides a feature vector: known networks, and the encoder's file."""
