"""MLflow: runs, versions and aliases, the served model. The one home of mlflow."""
