"""Models of three IOMMUs, bit for bit: Intel VT-d, AMD-Vi and ARM SMMUv3. Pure state: no processes, no clock.

`layout` is what the three share: formats as tables of bit ranges. Each architecture is a package whose `encode` and
`decode` turn fields into the bytes of its queue entries and structures, and back.
"""
