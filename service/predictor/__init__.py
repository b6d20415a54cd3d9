"""The predictor process, which keeps models in memory. The only part of the service that imports torch."""
