"""Intel VT-d: the invalidation queue's descriptors and the structures in memory."""

from hwmodel.iommu.vtd.formats import UNIT, Mode, Unit, decode, encode

__all__ = ["UNIT", "Mode", "Unit", "decode", "encode"]
