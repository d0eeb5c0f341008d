"""From a known network, or a file of the user, to an encoder."""
