"""Image formats: what the first bytes say, and what each format needs beyond its Pillow plugin."""
