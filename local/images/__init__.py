"""Container images of the one-machine cluster, made here without a container engine."""

from local.images.listing import catalog, derive
from local.images.oci import Image
from local.images.registry import mirror_name, publish

__all__ = ["Image", "catalog", "derive", "mirror_name", "publish"]
