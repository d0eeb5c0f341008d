"""Programs that are copied into exported folders. Model servers run them without Pomona's parts."""
