"""An encoder to one of lower precision."""
