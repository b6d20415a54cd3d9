"""What goes over REST, for the server, the predictor and the client alike."""
