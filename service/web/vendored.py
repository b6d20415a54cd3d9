"""The files of other projects in `static/vendor`: package and version on npm, license, and checksum. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VendoredFile:
    """A file that is taken unchanged from a package."""

    name: str
    package: str
    version: str
    path: str
    license: str
    sha256: str


VENDORED = (
    VendoredFile(
        name="htmx.min.js",
        package="htmx.org",
        version="2.0.11",
        path="dist/htmx.min.js",
        license="0BSD",
        sha256="d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    ),
    VendoredFile(
        name="sse.min.js",
        package="htmx-ext-sse",
        version="2.2.4",
        path="dist/sse.min.js",
        license="0BSD",
        sha256="98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
    ),
    VendoredFile(
        name="idiomorph-ext.min.js",
        package="idiomorph",
        version="0.7.4",
        path="dist/idiomorph-ext.min.js",
        license="0BSD",
        sha256="a6437e55b1b6a07bc421f0d230266a39399b6826c6ed19e0ed9c63b707444a5f",
    ),
    VendoredFile(
        name="uplot.iife.min.js",
        package="uplot",
        version="1.6.32",
        path="dist/uPlot.iife.min.js",
        license="MIT",
        sha256="19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    ),
    VendoredFile(
        name="uplot.min.css",
        package="uplot",
        version="1.6.32",
        path="dist/uPlot.min.css",
        license="MIT",
        sha256="df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    ),
)
