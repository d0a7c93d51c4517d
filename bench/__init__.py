"""The benchmarks: each runs beside its outside reference, in the same run, and prints the ratio.

`bench.cli` is the command, `bench.harness` the machinery; `bench.bulk`, `bench.clients`, `bench.ipc`,
`bench.pingpong`, `bench.rings`, `bench.scale` and `bench.sizes` are what is measured, `bench.compare` tells what
changed from one run to another. Programs that run as environments are in `bench.programs`, the references, plain
processes, in `bench.references`.
"""
