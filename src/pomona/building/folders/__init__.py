"""Networks in folders as their libraries publish them: weights, preprocessing and conventions."""
