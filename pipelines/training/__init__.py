"""The one LightningModule, and what goes on around it."""
