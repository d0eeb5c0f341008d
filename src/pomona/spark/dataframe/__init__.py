"""`featurize`, `featurize_udf` and `ImageFeaturizer`."""
