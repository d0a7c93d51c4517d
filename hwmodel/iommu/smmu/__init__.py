"""ARM SMMUv3: the command queue's commands and the structures in memory."""

from hwmodel.iommu.smmu.formats import UNIT, Unit, decode, encode

__all__ = ["UNIT", "Unit", "decode", "encode"]
