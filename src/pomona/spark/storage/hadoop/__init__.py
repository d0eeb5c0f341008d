"""Images and tables on Hadoop's file systems."""
