"""Any graph to pixels in, one vector out."""
