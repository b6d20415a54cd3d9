"""The one job document as a pydantic schema; nothing below imports torch."""
