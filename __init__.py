"""layerkit: data, models and benchmarks for image layer decomposition."""

__version__ = "0.1.0"
