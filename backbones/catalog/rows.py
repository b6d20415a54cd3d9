"""The catalog: networks that tests cover. To add one, add a line to a table; the contract tests run on all rows."""

from backbones.catalog.row import BackboneRow
from backbones.catalog.rows_classic import PLAIN, RESIDUAL
from backbones.catalog.rows_efficient import MOBILE, SCALED, SEARCHED
from backbones.catalog.rows_modern import CONVOLUTIONAL, TRANSFORMERS

CATALOG: dict[str, BackboneRow] = PLAIN | RESIDUAL | MOBILE | SEARCHED | SCALED | CONVOLUTIONAL | TRANSFORMERS
"""Catalog rows by name, in the order of the tables."""
