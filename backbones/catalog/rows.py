"""The networks that are vouched for. To add one, add a line to a table: the contract tests run over all of them."""

from backbones.catalog.row import BackboneRow
from backbones.catalog.rows_classic import PLAIN, RESIDUAL
from backbones.catalog.rows_efficient import MOBILE, SCALED, SEARCHED
from backbones.catalog.rows_modern import CONVOLUTIONAL, TRANSFORMERS

CATALOG: dict[str, BackboneRow] = PLAIN | RESIDUAL | MOBILE | SEARCHED | SCALED | CONVOLUTIONAL | TRANSFORMERS
"""By name, in the order of the tables."""
