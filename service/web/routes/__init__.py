"""The routes of the web page, one file per view."""
