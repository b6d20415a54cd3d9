"""MLflow: runs, registered versions and aliases, and the served model. No other package imports mlflow."""
