"""Networks of the design space, built from `backbones.spec.design`."""
