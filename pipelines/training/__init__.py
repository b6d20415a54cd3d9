"""The LightningModule, its losses and callbacks, and the trainer."""
