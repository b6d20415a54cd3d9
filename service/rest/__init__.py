"""Requests, responses and problems of the REST API, shared by server, predictor and client."""
