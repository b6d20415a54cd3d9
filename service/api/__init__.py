"""The API process, which serves the REST API. It never imports torch."""
