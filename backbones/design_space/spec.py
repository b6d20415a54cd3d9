"""`model.backbone.design`: a network described by data. Torch-free."""

from backbones.part import Part


class DesignSpec(Part):
    """One network of the design space."""

    preset: str | None = None

    @property
    def label(self) -> str:
        """What people and reports call it."""
        return f"design:{self.preset or 'own'}"
