from .dataframe.featurize import featurize as featurize
from .dataframe.featurize import featurize_udf as featurize_udf
from .dataframe.transformer import ImageFeaturizer as ImageFeaturizer
from .features import one_encoder as one_encoder
from .features import provenance as provenance
from .features import read_features as read_features
