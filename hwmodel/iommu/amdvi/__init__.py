"""AMD-Vi: the command buffer's commands and the structures in memory."""

from hwmodel.iommu.amdvi.formats import UNIT, Unit, decode, encode

__all__ = ["UNIT", "Unit", "decode", "encode"]
