"""What a .skops file may hold: the closed list of types that loading it may make.

scikit-learn's estimators that Ferry converts, what they keep inside, and numpy's arrays. No functions:
`FunctionTransformer` is here because a ColumnTransformer's passthrough is one, and one with a function
in it needs a type that is not here.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ESTIMATORS", "LOADERS", "TRUSTED"]

ESTIMATORS: Mapping[str, tuple[str, ...]] = {
    "sklearn.compose._column_transformer": ("ColumnTransformer",),
    "sklearn.decomposition._pca": ("PCA",),
    "sklearn.decomposition._truncated_svd": ("TruncatedSVD",),
    "sklearn.ensemble._forest": (
        "ExtraTreesClassifier",
        "ExtraTreesRegressor",
        "RandomForestClassifier",
        "RandomForestRegressor",
    ),
    "sklearn.ensemble._gb": ("GradientBoostingClassifier", "GradientBoostingRegressor"),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": (
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    ),
    "sklearn.ensemble._voting": ("VotingClassifier", "VotingRegressor"),
    "sklearn.ensemble._weight_boosting": ("AdaBoostClassifier",),
    "sklearn.feature_selection._variance_threshold": ("VarianceThreshold",),
    "sklearn.impute._base": ("SimpleImputer",),
    "sklearn.linear_model._base": ("LinearRegression",),
    "sklearn.linear_model._bayes": ("BayesianRidge",),
    "sklearn.linear_model._coordinate_descent": ("ElasticNet", "Lasso"),
    "sklearn.linear_model._huber": ("HuberRegressor",),
    "sklearn.linear_model._logistic": ("LogisticRegression",),
    "sklearn.linear_model._perceptron": ("Perceptron",),
    "sklearn.linear_model._ridge": ("Ridge", "RidgeClassifier"),
    "sklearn.linear_model._stochastic_gradient": ("SGDClassifier", "SGDRegressor"),
    "sklearn.naive_bayes": ("GaussianNB",),
    "sklearn.neural_network._multilayer_perceptron": ("MLPClassifier", "MLPRegressor"),
    "sklearn.pipeline": ("FeatureUnion", "Pipeline"),
    "sklearn.preprocessing._data": (
        "Binarizer",
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "RobustScaler",
        "StandardScaler",
    ),
    "sklearn.preprocessing._encoders": ("OneHotEncoder",),
    "sklearn.preprocessing._function_transformer": ("FunctionTransformer",),
    "sklearn.preprocessing._polynomial": ("PolynomialFeatures",),
    "sklearn.svm._classes": ("LinearSVC", "LinearSVR", "SVR"),
    "sklearn.tree._classes": (
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
    ),
}
"""By module, the estimators and transformers that are converted."""

_INSIDE: Mapping[str, tuple[str, ...]] = {
    "sklearn._loss._loss": (
        "CyAbsoluteError",
        "CyExponentialLoss",
        "CyHalfBinomialLoss",
        "CyHalfGammaLoss",
        "CyHalfMultinomialLoss",
        "CyHalfPoissonLoss",
        "CyHalfSquaredError",
        "CyHuberLoss",
        "CyPinballLoss",
    ),
    "sklearn._loss.link": (
        "HalfLogitLink",
        "IdentityLink",
        "Interval",
        "LogLink",
        "LogitLink",
        "MultinomialLogit",
    ),
    "sklearn._loss.loss": (
        "AbsoluteError",
        "ExponentialLoss",
        "HalfBinomialLoss",
        "HalfGammaLoss",
        "HalfMultinomialLoss",
        "HalfPoissonLoss",
        "HalfSquaredError",
        "HuberLoss",
        "PinballLoss",
    ),
    "sklearn.dummy": ("DummyClassifier", "DummyRegressor"),
    "sklearn.ensemble._hist_gradient_boosting.binning": ("_BinMapper",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.linear_model._sgd_fast": (
        "EpsilonInsensitive",
        "Hinge",
        "Huber",
        "Log",
        "ModifiedHuber",
        "SquaredEpsilonInsensitive",
        "SquaredHinge",
        "SquaredLoss",
    ),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "sklearn.preprocessing._label": ("LabelBinarizer", "LabelEncoder"),
    "sklearn.tree._tree": ("Tree",),
    "sklearn.utils._bunch": ("Bunch",),
}

_PLAIN: Mapping[str, tuple[str, ...]] = {
    "builtins": ("bool", "dict", "float", "int", "list", "set", "slice", "str", "tuple"),
    "numpy": (
        "bool",
        "bool_",
        "dtype",
        "float32",
        "float64",
        "int32",
        "int64",
        "intp",
        "ndarray",
        "str_",
        "uint32",
        "uint64",
        "uint8",
    ),
    "numpy.random._generator": ("Generator",),
    "numpy.random.mtrand": ("RandomState",),
}

TRUSTED = frozenset(
    f"{module}.{name}"
    for group in (ESTIMATORS, _INSIDE, _PLAIN)
    for module, names in group.items()
    for name in names
)

LOADERS = frozenset(
    {
        "CachedNode",
        "DTypeNode",
        "DictNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "NdArrayNode",
        "ObjectNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SetNode",
        "SliceNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)
"""How skops may make them; the other loaders call functions, bind methods or read scipy's archives."""
