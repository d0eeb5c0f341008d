"""Files and folders, on this machine or behind a URI."""
