"""A page in the browser that shows a table as a map, served from this machine."""
