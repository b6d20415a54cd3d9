"""From one job document to a trained, evaluated, registered model."""
