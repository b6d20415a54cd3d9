"""The process that answers REST. It never imports torch."""
