"""The web page: server-rendered views of what the REST API returns."""
