"""The process that holds models in memory and answers for images. The one part of the service with torch."""
