"""The embedded default: toolchain, one-machine cluster, images and model hub."""
